"""Which HDF5 file a path names, and which object in it; what that file consists of, and how much of it is cached.

A path is one in a mount, in the dataset, or of any other file on this machine, with the path of an object behind it.
"""

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.mount_status import status_of
from vbnfs.access.structures import Found, find_in_content, find_in_file
from vbnfs.access.tree_files import Place, file_within
from vbnfs.cli.asked import place_of
from vbnfs.cli.coverage import Coverage
from vbnfs.cli.render import size
from vbnfs.cli.running import load_aloud, run
from vbnfs.config.settings import Config
from vbnfs.dataset.tree import DataNode
from vbnfs.dataset.tree_builder import build_tree
from vbnfs.errors import DatasetError, Hdf5Error, with_remedy
from vbnfs.hdf5.branches import Wanted
from vbnfs.hdf5.structure import ExternalLink, Group, HardLink, SoftLink, Structure
from vbnfs.host.mountinfo import MountEntry, absolute, is_ours, list_mounts
from vbnfs.suggestions import near

_MOST_SOFT_LINKS: Final = 16
_MOST_NAMES: Final = 8

Find = Callable[[Wanted], Awaitable[Found]]


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


def open_hdf5(config: Config, path: Path, wanted: Wanted, *, given: Set[str]) -> Hdf5File:
    """The file that a path names, with what of `wanted` it has below the object that the path names.

    `given` are the names of settings as in `place_of`. Raises `Hdf5Error` for what is no HDF5 file and for an object
    that is not in it, and what `place_of` raises, and `verify`, for files of the dataset.
    """
    _check_answers(path)
    file, inner = _split(path)
    if file is None:
        return run(partial(_in_dataset, place_of(config, [path], given=given), None, wanted))
    entry = _mount_of(file)
    if entry is not None and is_ours(entry):
        place = place_of(config, [file], given=given)
        place = replace(place, paths=["/".join((place.paths[0], *inner))])
        return run(partial(_in_dataset, place, str(file), wanted))
    # Not by `run`: nothing of ours is written, so there is nothing to keep others out of.
    return trio.run(_on_this_machine, file, inner, wanted, restrict_keyboard_interrupt_to_checkpoints=True)


def _mount_of(path: Path) -> MountEntry | None:
    where = absolute(path)
    return next((entry for entry in list_mounts() if where.is_relative_to(entry.mountpoint)), None)


def _check_answers(path: Path) -> None:
    """Raise `MountError` where a path is in a mount whose daemon does not answer: to look at it would hang."""
    entry = _mount_of(path)
    if entry is not None:
        status_of(entry)


def _split(path: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The regular file that a path leads to or through, and what is behind it; None: this machine has none there."""
    for count, candidate in enumerate((path, *path.parents)):
        try:
            mode = candidate.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # of an object
                continue
            raise Hdf5Error(f"{candidate}: {error.strerror}") from error
        if stat.S_ISREG(mode):
            return candidate, path.parts[len(path.parts) - count :]
        return _nothing(path, candidate, mode)
    return None, ()


def _nothing(path: Path, there: Path, mode: int) -> tuple[None, tuple[str, ...]]:
    """What is to be said of a path that ends at something else than a file; nothing, if it may be in the dataset."""
    if not stat.S_ISDIR(mode):
        raise Hdf5Error(f"{there}: not a regular file: name an HDF5 file")
    if there == path:
        raise Hdf5Error(f"{path}: a folder: name a file in it; 'ls {path}' lists those that there are")
    if path.is_absolute() or _mount_of(there) is not None:
        raise DatasetError(f"{path}: no such file or folder; 'ls {there}' lists those that there are")
    return None, ()


async def _in_dataset(place: Place, name: str | None, wanted: Wanted) -> Hdf5File:
    """A file of the dataset. `name` is how it is shown; by default its path in the dataset."""
    async with open_dataset(place.config) as dataset:
        versions = await load_aloud(dataset, max_age_seconds=place.max_age_seconds)
        release = versions.release
        default = release.choose(place.config.dataset_version)
        tree = build_tree(release.manifests, contents=versions.named, default_version=default, readme=b"")
        path, node, inner = file_within(tree, place.paths[0])
        if not isinstance(node, DataNode):
            raise _is_none(name or path)
        content = node.content.with_attributes(await dataset.catalog.sizes.fetch(node.content))
        asked = _Asked(name or path, content.size_bytes, partial(find_in_content, dataset, content))
        object_path, start, found = await asked.resolve(inner, wanted)
        blocks = await trio.to_thread.run_sync(dataset.cache.recorded, content)
    return Hdf5File(
        name=asked.name,
        size_bytes=content.size_bytes,
        object_path=object_path,
        start=start,
        structure=found.structure,
        coverage=Coverage(content.size_bytes, blocks),
        is_of_dataset=True,
        failure=None if found.failure is None else with_remedy(found.failure),
    )


async def _on_this_machine(file: Path, inner: Sequence[str], wanted: Wanted) -> Hdf5File:
    """A file that is read as it is: all of it is here, or it is in another user's mount, which fetches it."""
    try:
        with file.open("rb") as opened:
            size_bytes = os.fstat(opened.fileno()).st_size
            find = partial(find_in_file, opened.fileno(), size_bytes)
            in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)  # Ctrl-C does not wait for it
            asked = _Asked(str(file), size_bytes, lambda wanted: in_thread(find, wanted))
            object_path, start, found = await asked.resolve(inner, wanted)
    except OSError as error:
        raise Hdf5Error(f"{file}: {error.strerror}") from error
    return Hdf5File(
        name=str(file),
        size_bytes=size_bytes,
        object_path=object_path,
        start=start,
        structure=found.structure,
        coverage=Coverage(size_bytes, None),
        is_of_dataset=False,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A file in which an object is looked up. `find` finds what is wanted of it."""

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
            return _is_none(self.name)
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


def _is_none(name: str) -> Hdf5Error:
    return Hdf5Error(f"{name}: not an HDF5 file: it has no superblock; .nwb and .h5 files are")
