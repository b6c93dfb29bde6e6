"""Which object of an HDF5 file a path leads to, and the file as it was found from there on."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from vbnfs.access.dataset import Dataset
from vbnfs.access.structures import Found, find_in_content
from vbnfs.errors import Hdf5Error, with_remedy
from vbnfs.hdf5.branches import Wanted
from vbnfs.hdf5.coverage import Coverage
from vbnfs.hdf5.found_file import Hdf5File
from vbnfs.hdf5.structure import ExternalLink, Group, HardLink, SoftLink
from vbnfs.objects import Content
from vbnfs.suggestions import near

_MOST_SOFT_LINKS: Final = 16
_MOST_NAMES: Final = 8

Find = Callable[[Wanted], Awaitable[Found]]


async def open_content(
    dataset: Dataset, content: Content, name: str, inner: Sequence[str], wanted: Wanted, find: Find | None = None
) -> Hdf5File:
    """A file of the dataset with what of `wanted` it has below an object of it. `name` is how the file is shown.

    `find` has it from elsewhere than by a walk. Raises `Hdf5Error` for what is no HDF5 file, and for an object that
    is not in it.
    """
    objects = Objects(name, content.size_bytes, find or partial(find_in_content, dataset, content))
    object_path, start, found = await objects.resolve(inner, wanted)
    blocks = await trio.to_thread.run_sync(dataset.cache.recorded, content)
    return Hdf5File(
        name=name,
        size_bytes=content.size_bytes,
        object_path=object_path,
        start=start,
        structure=found.structure,
        coverage=Coverage(content.size_bytes, blocks),
        is_of_dataset=True,
        failure=None if found.failure is None else with_remedy(found.failure),
    )


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a file. `find` finds what is wanted of it."""

    name: str
    size_bytes: int
    find: Find

    async def resolve(self, inner: Sequence[str], wanted: Wanted) -> tuple[tuple[str, ...], int, Found]:
        """The object at a path, by which names it is reached without soft links, and what was found below it."""
        path = tuple(part for part in inner if part != ".")
        for _ in range(_MOST_SOFT_LINKS):
            found = await self.find(replace(wanted, path=path))
            end = self._follow(path, found)
            if isinstance(end, int):
                return path, end, found
            path = end
        raise Hdf5Error(f"{self.name}: /{'/'.join(inner)}: soft links lead to soft links without an end")

    def _follow(self, path: tuple[str, ...], found: Found) -> int | tuple[str, ...]:
        """Where the header of the object at a path begins; or another path, if a soft link is on the way."""
        structure = found.structure
        start = structure.root
        if start is None or start not in structure.objects:
            raise self._no_root(found)
        for number, part in enumerate(path):
            group = structure.objects.get(start)
            link = group.links.get(part) if isinstance(group, Group) else None
            match link:
                case HardLink(start) if start in structure.objects:
                    continue
                case SoftLink(to):
                    above = () if to.startswith("/") else path[:number]
                    return (*above, *(each for each in to.split("/") if each not in {"", "."}), *path[number + 1 :])
                case ExternalLink(file, to):
                    raise Hdf5Error(f"{self.name}: /{'/'.join(path[: number + 1])} leads to {to} in the file {file}")
            raise self._no_object(path[: number + 1], group, found)
        return start

    def _no_root(self, found: Found) -> Hdf5Error:
        if found.failure is not None:
            return Hdf5Error(f"{self.name}: its structure cannot be read: {with_remedy(found.failure)}")
        if found.structure.root is None:
            return is_none(self.name)
        return Hdf5Error(f"{self.name}: its root group cannot be read: it is damaged or cut short; fetch it again")

    def _no_object(self, path: Sequence[str], group: object, found: Found) -> Hdf5Error:
        where = f"{self.name}: /{'/'.join(path)}"
        if found.failure is not None:
            return Hdf5Error(f"{where}: not found in what is cached: {with_remedy(found.failure)}")
        names = sorted(group.links) if isinstance(group, Group) else []
        if path[-1] in names:
            return Hdf5Error(f"{where}: cannot be read: it is damaged, or beyond the bounds of what is read")
        nearest = near(path[-1], names) or names[:_MOST_NAMES]
        above = "/".join(("", *path[:-1])) or "/"
        there = f"{', '.join(nearest)}{', ...' if len(names) > len(nearest) else ''}" if nearest else "nothing"
        return Hdf5Error(f"{where}: no such object; {above} has {there}")


def is_none(name: str) -> Hdf5Error:
    """What is raised for a file that is no HDF5 file."""
    return Hdf5Error(f"{name}: not an HDF5 file: it has no superblock; .nwb and .h5 files are")
