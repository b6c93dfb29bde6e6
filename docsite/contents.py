"""What the site consists of: its sections, and the documents in each, as the repository names them (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

HOME: Final = "README.md"
COMMANDS: Final = "commands"  # a page that has no document: it is made of the commands' own help
JOURNAL: Final = "docs/journal/"

# What is in none of these sections stands in one of its own.
_SECTIONS: Final[Mapping[str, str]] = {
    "Begin": f"{HOME} docs/quick-start.md docs/concepts.md docs/from-allensdk.md docs/recipes.md docs/python.md"
    " docs/fsspec.md docs/dask.md docs/notebooks/allensdk.ipynb docs/notebooks/dataset.ipynb"
    " docs/notebooks/fsspec.ipynb docs/portability.md docs/glossary.md",
    "Use": "docs/finding.md docs/working-sets.md docs/versions.md docs/outline.md docs/sharing-data.md docs/cache.md"
    " docs/shared-cache.md docs/web.md docs/bandwidth.md docs/structure-index.md docs/digests.md docs/records.md"
    f" docs/settings.md docs/json.md {COMMANDS}",
    "When it does not work": "docs/troubleshooting.md docs/doctor.md docs/watching.md docs/s3-replies.md",
    "Administer": "docs/installing.md docs/administration.md docs/mounting.md docs/other-hosts.md docs/slurm.md"
    " docs/jupyterhub.md docs/container-image.md docs/kubernetes.md docs/mirror.md"
    " docs/site-cache.md"
    " SECURITY.md",
    "How it works": "docs/semantics.md ARCHITECTURE.md docs/decisions.md docs/PERFORMANCE.md docs/scale.md"
    " docs/RELIABILITY.md docs/dependencies.md CONTRIBUTING.md CHANGELOG.md",
}
_REST: Final = "More"
_JOURNAL: Final = "What was tried"


@dataclass(frozen=True, slots=True)
class Section:
    """A title, and the documents below it, in order."""

    title: str
    documents: tuple[str, ...]


def sections(documents: Sequence[str]) -> list[Section]:
    """The sections that all of these documents make, each document in one of them.

    Raises a ValueError if a document that a section names is not there.
    """
    named = [name for names in _SECTIONS.values() for name in names.split() if name != COMMANDS]
    if missing := set(named) - set(documents):
        raise ValueError(f"no such document: {', '.join(sorted(missing))}")
    journal = tuple(name for name in documents if name.startswith(JOURNAL))
    rest = tuple(name for name in documents if name not in named and name not in journal)
    more = [Section(_REST, rest)] if rest else []
    return [
        *(Section(title, tuple(names.split())) for title, names in _SECTIONS.items()),
        *more,
        Section(_JOURNAL, journal),
    ]
