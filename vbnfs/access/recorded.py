"""What `vbnfs prefetch --record` fetches: of each file that a record names, the blocks that its ranges touch.

How it is fetched is in fetching.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import trio

from vbnfs.access.fetching import Choose, Target
from vbnfs.access.room import Need
from vbnfs.access.tree_files import asked_files
from vbnfs.access.verifying import Work
from vbnfs.access.versions import Versions
from vbnfs.access.wanted import Found
from vbnfs.amounts import files as files_text
from vbnfs.blocks import Portion, blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.dataset.names import MANIFESTS
from vbnfs.dataset.read_records import MOST_LINE_BYTES, ReadFile, ReadRecord, parse_record
from vbnfs.dataset.tree import DataNode
from vbnfs.errors import RecordError
from vbnfs.objects import ByteRange


def read_record(path: Path) -> ReadRecord:
    """The record in a file. Raises `RecordError`."""
    try:
        with path.open("rb") as file:
            return parse_record(_lines(file.readline), str(path))
    except OSError as error:
        raise RecordError(f"{path}: the record cannot be read: {error.strerror}") from error


def _lines(readline: Callable[[int], bytes]) -> Iterator[bytes]:
    """Lines, of which a longer one than a record has comes in parts, which are none."""
    while line := readline(MOST_LINE_BYTES + 1):
        yield line


def notes_on(record: ReadRecord, config: Config) -> list[str]:
    """What is wrong with a record, and what of it is of another dataset than the settings name."""
    notes = [] if record.problem is None else [record.problem]
    if others := len(record.files) - len(record.of(config.bucket, config.project).files):
        notes.append(f"{files_text(others)} of other datasets are left out")
    return notes


def chosen_by(record: ReadRecord) -> Choose:
    """What chooses the portions of files that a record names, of the dataset that is opened."""
    return partial(_target_of, record)


async def _target_of(record: ReadRecord, versions: Versions, work: Work) -> Target:
    dataset = versions.dataset
    config, sizes = dataset.config, dataset.catalog.sizes
    read = [file for file in record.of(config.bucket, config.project).files if file.ranges]
    if not read:
        raise RecordError(
            f"nothing to fetch: no file of s3://{config.bucket}/{config.project} was read in the record"
        )
    found, absent = _by_node(read, versions)
    await sizes.fetch_all([node.content for node, _ in found])
    files, portions = list[tuple[str, DataNode]](), list[Portion]()
    for node, same in found:
        content = node.content.with_attributes(await sizes.fetch(node.content))
        if content.size_bytes == same[0].size_bytes:
            files.append((same[0].path, node))
            portions.append(Portion(content, _blocks_of(same)))
        else:  # an object without versions, which is another one now
            absent.append(same[0].path)
    need = await trio.to_thread.run_sync(_need_of, dataset.cache, portions)
    counted_for = sorted({file.dataset_version for file in read}, key=DatasetVersion)
    return Target(versions, Found(", ".join(counted_for), files, ()), portions, need, absent)


def _by_node(read: Iterable[ReadFile], versions: Versions) -> tuple[list[tuple[DataNode, list[ReadFile]]], list[str]]:
    """The files of the dataset, each with what the record has of it; and the paths of those that are not in it."""
    by_entry = versions.named.by_entry
    by_hash = {one.file_hash: one for one in by_entry.values() if one.file_hash is not None}
    nodes = (node for _, node in asked_files(versions, ())[MANIFESTS] if isinstance(node, DataNode))
    by_id = {node.content.content_id: node for node in nodes}
    found, absent = dict[str, list[ReadFile]](), list[str]()
    for file in read:
        named = by_entry.get((file.version, file.file_hash)) or by_hash.get(file.file_hash or "")
        if named is None:
            absent.append(file.path)
        else:
            found.setdefault(named.content_id, []).append(file)
    return [(by_id[content_id], same) for content_id, same in found.items()], absent


def _blocks_of(same: Iterable[ReadFile]) -> list[int]:
    ranges = (ByteRange(*pair) for file in same for pair in file.ranges)
    return sorted({block for one in ranges for block in blocks_of(one)})


def _need_of(cache: BlockCache, portions: Sequence[Portion]) -> Need:
    missing = (Portion(one.content, cache.missing(one.content, one.blocks)) for one in portions)
    return Need(sum(one.count_bytes for one in portions), sum(one.count_bytes for one in missing))
