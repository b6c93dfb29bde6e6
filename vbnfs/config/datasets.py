"""Named datasets: those that vbnfs knows, and those that the TOML file's tables [datasets.NAME] describe (pure)."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_DATASET: Final = "visual-behavior-neuropixels"
# What a dataset may say: where it is, and which of its versions is wanted.
DATASET_SETTINGS: Final = (
    "bucket", "project", "region", "endpoint_url", "ca_bundle", "dataset_version", "versions", "mirror",
)  # fmt: skip
_REGION: Final = "us-west-2"
_KNOWN: Final[Mapping[str, Mapping[str, str]]] = {
    DEFAULT_DATASET: {
        "bucket": "visual-behavior-neuropixels-data",
        "project": "visual-behavior-neuropixels",
        "region": _REGION,
        "versions": "0.1.0:0.2.0:0.3.0:0.4.0:0.5.0",
    },
    "visual-behavior-ophys": {
        "bucket": "visual-behavior-ophys-data",
        "project": "visual-behavior-ophys",
        "region": _REGION,
    },
}


MIRROR_KEYS: Final = ("bucket", "endpoint_url", "region", "ca_bundle")


@dataclass(frozen=True, slots=True)
class MirrorPlace:
    """Where a copy of a dataset's objects is. `endpoint_url` None is AWS; what else is None is the dataset's."""

    bucket: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    ca_bundle: Path | None = None

    def __str__(self) -> str:
        """As the setting's text has it."""
        values = ((key, getattr(self, key)) for key in MIRROR_KEYS)
        return mirror_text({key: str(value) for key, value in values if value is not None})


def mirror_text(table: Mapping[str, str]) -> str:
    """A table of `MIRROR_KEYS` as words, which shlex.split separates."""
    return shlex.join(f"{key}={value}" for key, value in table.items())


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
