"""Named datasets: those that vbnfs knows, and those that the TOML file's tables [datasets.NAME] describe (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DEFAULT_DATASET: Final = "visual-behavior-neuropixels"
# What a dataset may say: where it is, and which of its versions is wanted.
DATASET_SETTINGS: Final = ("bucket", "project", "region", "endpoint_url", "ca_bundle", "dataset_version")
_REGION: Final = "us-west-2"
_KNOWN: Final[Mapping[str, Mapping[str, str]]] = {
    DEFAULT_DATASET: {
        "bucket": "visual-behavior-neuropixels-data",
        "project": "visual-behavior-neuropixels",
        "region": _REGION,
    },
    "visual-behavior-ophys": {
        "bucket": "visual-behavior-ophys-data",
        "project": "visual-behavior-ophys",
        "region": _REGION,
    },
}


@dataclass(frozen=True, slots=True)
class NamedDataset:
    """A dataset's name, and its settings as text by name; bucket, project and region are always among them."""

    name: str
    texts: Mapping[str, str]


def complete_dataset(name: str, texts: Mapping[str, str]) -> NamedDataset:
    """A dataset with what `texts` leave out: the project has its name, the bucket is the project's, with "-data"."""
    project = texts.get("project", name)
    return NamedDataset(name, {"bucket": f"{project}-data", "project": project, "region": _REGION, **texts})


def all_datasets(tables: Mapping[str, Mapping[str, str]]) -> dict[str, NamedDataset]:
    """All datasets by name. A table with the name of a known dataset replaces the settings that it gives."""
    return {
        name: complete_dataset(name, {**_KNOWN.get(name, {}), **tables.get(name, {})})
        for name in sorted({*_KNOWN, *tables})
    }
