"""An HDF5 file: what was found of it, from an object on, and how much of it is cached (pure)."""

from dataclasses import dataclass

from vbnfs.amounts import size
from vbnfs.errors import Hdf5Error
from vbnfs.hdf5.coverage import Coverage
from vbnfs.hdf5.structure import Structure


@dataclass(frozen=True, slots=True)
class Hdf5File:
    """A file, and the object in it that was asked for.

    `object_path` has the names that lead to it from the root group, `start` is the byte at which its header begins.
    `is_of_dataset`: else all of the file is on this machine, or its cache is another user's, and `coverage` says
    nothing. `failure` is why not all blocks came.
    """

    name: str
    size_bytes: int
    object_path: tuple[str, ...]
    start: int
    structure: Structure
    coverage: Coverage
    is_of_dataset: bool
    failure: str | None = None

    def check(self) -> None:
        """Raise `Hdf5Error` where not all was found that was asked for. For the end, when what was found is shown."""
        structure, lacking = self.structure, ""
        if structure.end is not None and structure.end > self.size_bytes:
            sizes = f"by its superblock it has {size(structure.end)}, and {size(self.size_bytes)} are there"
            lacking = f"it is cut short: {sizes}; copy or fetch it again"
        elif self.failure is not None:
            lacking = self.failure
        elif not structure.is_complete:
            kinds = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(structure.unparsed.items()))
            lacking = f"left out: {kinds}; name a group to see less of the file, or all of that"
        if lacking:
            raise Hdf5Error(f"{self.name}: not all of its structure was found: {lacking}")
