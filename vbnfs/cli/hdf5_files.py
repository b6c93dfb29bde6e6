"""Which HDF5 file a path names, and which object in it; what that file consists of, and how much of it is cached.

A path is one in a mount, in the dataset, or of any other file on this machine, with the path of an object behind it.
"""

import errno
import os
import stat
from collections.abc import Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.hdf5_objects import Objects, is_none, open_content
from vbnfs.access.mount_status import status_of
from vbnfs.access.structures import find_in_file
from vbnfs.access.tree_files import Place, file_within
from vbnfs.cli.asked import place_of
from vbnfs.cli.running import load_aloud, run
from vbnfs.config.settings import Config
from vbnfs.dataset.tree import DataNode
from vbnfs.dataset.tree_builder import build_tree
from vbnfs.errors import DatasetError, Hdf5Error
from vbnfs.hdf5.branches import Wanted
from vbnfs.hdf5.coverage import Coverage
from vbnfs.hdf5.found_file import Hdf5File
from vbnfs.host.mountinfo import MountEntry, absolute, is_ours, list_mounts


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
            raise is_none(name or path)
        content = node.content.with_attributes(await dataset.catalog.sizes.fetch(node.content))
        return await open_content(dataset, content, name or path, inner, wanted)


async def _on_this_machine(file: Path, inner: Sequence[str], wanted: Wanted) -> Hdf5File:
    """A file that is read as it is: all of it is here, or it is in another user's mount, which fetches it."""
    try:
        with file.open("rb") as opened:
            size_bytes = os.fstat(opened.fileno()).st_size
            find = partial(find_in_file, opened.fileno(), size_bytes)
            in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)  # Ctrl-C does not wait for it
            asked = Objects(str(file), size_bytes, lambda wanted: in_thread(find, wanted))
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
