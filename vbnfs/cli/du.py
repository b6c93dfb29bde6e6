"""What `vbnfs du` shows: how much of the dataset is in the cache, in several ways. S3 is not asked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.here import Here
from vbnfs.access.pinning import dataset_of
from vbnfs.access.tree_files import Place, asked_files
from vbnfs.access.versions import Versions, load_versions
from vbnfs.cache.pins import Pin, read_pins
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.dataset.kinds import KINDS, kind_of
from vbnfs.dataset.names import MANIFESTS
from vbnfs.dataset.tree import DataNode, Node
from vbnfs.objects import Content

WAYS: Final = ("version", "session", "kind", "pin")
TOGETHER: Final = "together"
_NO_SESSION: Final = "of no session"


@dataclass(frozen=True, slots=True)
class Row:
    """Of some files: how many, and their sizes in bytes; what of them is here, in whole files, and pinned.

    `size_bytes` is that of the files whose size is known.
    """

    name: str
    files: int
    size_bytes: int
    here_bytes: int
    whole_bytes: int
    pinned_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The row with its fields' names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    content: Content
    dataset_versions: Sequence[str]


def run(where: Place, by: str) -> list[Row]:
    """A row for each version, session, kind or pin that files are of, and one for all. Raises a `VbnfsError`."""
    return run_to_the_end(partial(_measure, replace(where, config=replace(where.config, offline=True)), by))


async def _measure(where: Place, by: str) -> list[Row]:
    async with open_dataset(where.config) as dataset:
        versions = await load_versions(dataset)
        return await trio.to_thread.run_sync(_rows, where, versions, by)


def _rows(where: Place, versions: Versions, by: str) -> list[Row]:
    here, pins = Here.of(where.config), _pins(where)
    files = list(_files(versions, asked_files(versions, where.paths or [MANIFESTS])))
    pinned = {content_id for pin in pins for content_id in pin.sizes}
    groups: dict[str, list[_File]] = {}
    for file in files:
        for name in _groups(file, by, pins):
            groups.setdefault(name, []).append(file)
    rows = [_row(name, groups[name], here, pinned) for name in _in_order(groups, by)]
    return [*rows, _row(TOGETHER, files, here, pinned)]


def _pins(where: Place) -> list[Pin]:
    return [pin for pin in read_pins(where.config.cache_dir)[0] if pin.dataset == dataset_of(where.config)]


def _files(versions: Versions, asked: Mapping[str, Sequence[tuple[str, Node]]]) -> Iterator[_File]:
    """The different files whose size is known."""
    seen = set[int]()
    for name, node in (one for found in asked.values() for one in found):
        if isinstance(node, DataNode) and node.inode not in seen:
            seen.add(node.inode)
            attributes = versions.dataset.catalog.sizes.get(node.content)
            if attributes is not None:
                yield _File(name, node.content.with_attributes(attributes), node.dataset_versions)


def _groups(file: _File, by: str, pins: Iterable[Pin]) -> Sequence[str]:
    """The names of the rows that a file counts in."""
    if by == "version":
        return file.dataset_versions
    if by == "pin":
        return [pin.name for pin in pins if file.content.content_id in pin.sizes]
    kind = kind_of(file.name.split("/"))
    if by == "kind":
        return [kind.kind]
    return [_NO_SESSION if kind.session_id is None else str(kind.session_id)]


def _in_order(names: Iterable[str], by: str) -> list[str]:
    order = {kind: f"{number}" for number, kind in enumerate(KINDS)} if by == "kind" else {}
    return sorted(names, key=lambda name: (order.get(name, ""), name == _NO_SESSION, name))


def _row(name: str, files: Sequence[_File], here: Here, pinned: set[str]) -> Row:
    sizes = {file.content.content_id: file.content.size_bytes for file in files}
    return Row(
        name=name,
        files=len(sizes),
        size_bytes=sum(sizes.values()),
        here_bytes=sum(here.bytes_of(one, size) for one, size in sizes.items()),
        whole_bytes=sum(size for one, size in sizes.items() if one in here.whole),
        pinned_bytes=sum(here.bytes_of(one, size) for one, size in sizes.items() if one in pinned),
    )
