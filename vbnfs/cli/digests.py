"""What `vbnfs digests` does: digests of blocks from this cache into one file, and from such a file into a cache.

docs/digests.md has the format. The same digests make the same bytes: sets stand in the order of the files' hashes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.dataset import open_dataset
from vbnfs.cache.digests import DigestSet, DigestStore, Imported, read_set
from vbnfs.cli.asked import Place, asked_files
from vbnfs.cli.render import files
from vbnfs.cli.running import load_aloud, run
from vbnfs.dataset.tree import DataNode
from vbnfs.errors import CacheError, DatasetError, DigestsError, NotVerifiedError
from vbnfs.host.atomic import output_file
from vbnfs.host.private import keep_others_out

_NOTE_SECONDS: Final = 2.0

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """How many files' digests were exported or imported, their bytes, and how many of them are `new` here."""

    files: int
    count_bytes: int
    new: int = 0


# Export


def export(where: Place, file: Path, *, note: Note) -> Moved:
    """Write the digests of what `where` names (all that there are, without paths) to `file`, as a whole.

    Raises `NotVerifiedError` behind that for files of which there are none, `DigestsError` where `file` cannot be
    written, and what `verify` raises.
    """
    keep_others_out()
    prepare_cache_directory(where.config.cache_dir)
    store = DigestStore(where.config.cache_dir)
    wanted = run(partial(_hashes_at, where)) if where.paths else dict.fromkeys(store.proven_hashes(), "")
    found = (digests for name in sorted(wanted) if (digests := store.proven(name)) is not None)
    moved, kept = _write(found, file, note=note)
    lacking = [path for file_hash, path in wanted.items() if file_hash not in kept]
    if lacking and where.paths:
        rest = f"those of the others are in {file}" if kept else f"{file} has none"
        raise NotVerifiedError(
            f"{len(lacking)} of {len(wanted)} files have no digests here, such as {lacking[0]}: 'vbnfs verify --fetch"
            f" PATH' makes them; {rest}"
        )
    return moved


async def _hashes_at(where: Place) -> dict[str, str]:
    """The hashes of the files at paths of the tree, each with a name that has it. Raises a `VbnfsError`."""
    async with open_dataset(where.config) as dataset:
        asked = asked_files(await load_aloud(dataset, max_age_seconds=where.max_age_seconds), where.paths)
    files = [(name, node) for nodes in asked.values() for name, node in nodes if isinstance(node, DataNode)]
    hashes = {node.content.file_hash: name for name, node in files}
    found = {file_hash: name for file_hash, name in hashes.items() if file_hash is not None}
    if not found:
        raise DatasetError(f"{' '.join(where.paths)}: no file with a hash is there, so there are no digests")
    return found


def _write(sets: Iterable[DigestSet], file: Path, *, note: Note) -> tuple[Moved, set[str]]:
    """Write sets, and replace the file as a whole. Returns the hashes of the files in it, too."""
    note, kept, count_bytes = _seldom(note), set[str](), 0
    with _failures_of(file, "cannot be written"), output_file(file) as out:
        for one in sets:
            count_bytes += out.write(one.encode())
            kept.add(one.file_hash)
            note(files(len(kept)))
    return Moved(len(kept), count_bytes), kept


# Import


def take_in(cache_dir: Path, file: Path, *, note: Note) -> Moved:
    """Keep the digests of a file as claims. Raises `DigestsError`, `CacheError`; sets before a bad one are kept.

    Where digests are proven here and the file has others, these stay, and the error comes at the end.
    """
    keep_others_out()
    prepare_cache_directory(cache_dir)
    store, outcomes, note = DigestStore(cache_dir), Counter[Imported](), _seldom(note)
    with _failures_of(file, "cannot be read"), file.open("rb") as opened:
        for one in _sets_of(file, opened):
            try:
                outcomes[store.take_in(one)] += 1
            except OSError as error:
                raise CacheError(f"{cache_dir}: digests cannot be kept there: {error.strerror}") from error
            note(files(outcomes.total()))
        count_bytes = opened.tell()
    if refused := outcomes[Imported.REFUSED]:
        raise DigestsError(
            f"{file}: other digests of {refused:,} of {outcomes.total():,} files are proven here, and stay: the cache"
            " that it was made from has other bytes; the rest was imported"
        )
    return Moved(outcomes.total(), count_bytes, outcomes[Imported.NEW])


def _sets_of(file: Path, opened: BinaryIO) -> Iterator[DigestSet]:
    for number in range(1, 1 << 62):
        position = opened.tell()
        try:
            one = read_set(opened)
        except DigestsError as error:
            before = f"; the digests of {files(number - 1)} before it were imported" if number > 1 else ""
            raise DigestsError(
                f"{file}: at byte {position:,}: {error}{before}: 'vbnfs digests export' writes such a file anew, or"
                " copy it again"
            ) from error
        if one is None:
            return
        yield one


# Both


@contextmanager
def _failures_of(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DigestsError(f"{file}: {what}: {error.strerror}") from error


def _seldom(note: Note) -> Note:
    """Passes a note on every two seconds: work that is soon done says nothing."""
    last = [time.monotonic()]

    def pass_on(text: str) -> None:
        if time.monotonic() - last[0] >= _NOTE_SECONDS:
            last[0] = time.monotonic()
            note(text)

    return pass_on
