"""Sets of what is known of files (cache/sets.py), from this cache into one file, and from such a file into a cache.

`vbnfs digests` and `vbnfs index` do so alike. The same sets make the same bytes: they stand in the order of the
files' hashes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Generic, Protocol, TypeVar

from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.dataset import open_dataset
from vbnfs.access.tree_files import Place, asked_files
from vbnfs.cache.sets import BlockSet, Imported
from vbnfs.cli.render import files
from vbnfs.cli.running import load_aloud, run
from vbnfs.dataset.tree import DataNode
from vbnfs.errors import CacheError, DatasetError, NotVerifiedError, SetError
from vbnfs.host.atomic import output_file
from vbnfs.host.private import keep_others_out, users_umask

_Set = TypeVar("_Set", bound=BlockSet)

_NOTE_SECONDS: Final = 2.0

Note = Callable[[str], None]


class Store(Protocol[_Set]):
    """What a cache directory has of one kind of set."""

    def proven(self, file_hash: str) -> _Set | None:
        """What was found out here of a file."""
        ...

    def proven_hashes(self) -> Iterator[str]:
        """The hashes of all files of which something was."""
        ...

    def take_in(self, found: _Set, /) -> Imported:
        """Keep what was made elsewhere, as a claim. Raises `OSError`."""
        ...


@dataclass(frozen=True, slots=True)
class Ware(Generic[_Set]):
    """What is exported and imported: its store in a cache directory, and the words of messages.

    `made_by` is the command that makes it for PATH. `contradicted` says what it means that a file has other sets than
    those that are proven here.
    """

    name: str
    command: str
    made_by: str
    contradicted: str
    error: type[SetError]
    store_of: Callable[[Path], Store[_Set]]
    read_set: Callable[[BinaryIO], _Set | None]


@dataclass(frozen=True, slots=True)
class Moved:
    """Of how many files sets were exported or imported, their bytes, and how many of them are `new` here."""

    files: int
    count_bytes: int
    new: int = 0


# Export


def export(ware: Ware[_Set], where: Place, file: Path, *, note: Note) -> Moved:
    """Write the sets of what `where` names (all that there are, without paths) to `file`, as a whole.

    Raises `NotVerifiedError` behind that for files of which there are none, the ware's error where `file` cannot be
    written, and what `verify` raises.
    """
    mode = 0o666 & ~users_umask()
    keep_others_out()
    prepare_cache_directory(where.config.cache_dir)
    store = ware.store_of(where.config.cache_dir)
    wanted = run(partial(_hashes_at, ware, where)) if where.paths else dict.fromkeys(store.proven_hashes(), "")
    found = (one for name in sorted(wanted) if (one := store.proven(name)) is not None)
    moved, kept = _write(ware, found, file, mode=mode, note=note)
    lacking = [path for file_hash, path in wanted.items() if file_hash not in kept]
    if lacking and where.paths:
        rest = f"those of the others are in {file}" if kept else f"{file} has none"
        raise NotVerifiedError(
            f"{len(lacking)} of {len(wanted)} files have no {ware.name} here, such as {lacking[0]}: '{ware.made_by}"
            f" PATH' makes them; {rest}"
        )
    return moved


async def _hashes_at(ware: Ware[_Set], where: Place) -> dict[str, str]:
    """The hashes of the files at paths of the tree, each with a name that has it. Raises a `VbnfsError`."""
    async with open_dataset(where.config) as dataset:
        asked = asked_files(await load_aloud(dataset, max_age_seconds=where.max_age_seconds), where.paths)
    files = [(name, node) for nodes in asked.values() for name, node in nodes if isinstance(node, DataNode)]
    hashes = {node.content.file_hash: name for name, node in files}
    found = {file_hash: name for file_hash, name in hashes.items() if file_hash is not None}
    if not found:
        raise DatasetError(f"{' '.join(where.paths)}: no file with a hash is there, so there are no {ware.name}")
    return found


def _write(ware: Ware[_Set], sets: Iterable[_Set], file: Path, *, mode: int, note: Note) -> tuple[Moved, set[str]]:
    """Write sets, and replace the file as a whole. Returns the hashes of the files in it, too."""
    note, kept, count_bytes = _seldom(note), set[str](), 0
    with _failures_of(ware, file, "cannot be written"), output_file(file, mode=mode) as out:
        for one in sets:
            count_bytes += out.write(one.encode())
            kept.add(one.file_hash)
            note(files(len(kept)))
    return Moved(len(kept), count_bytes), kept


# Import


def take_in(ware: Ware[_Set], cache_dir: Path, file: Path, *, note: Note) -> Moved:
    """Keep the sets of a file as claims. Raises the ware's error, `CacheError`; sets before a bad one are kept.

    Where others are proven here than the file has, these stay, and the error comes at the end.
    """
    keep_others_out()
    prepare_cache_directory(cache_dir)
    store, outcomes, note = ware.store_of(cache_dir), Counter[Imported](), _seldom(note)
    with _failures_of(ware, file, "cannot be read"), file.open("rb") as opened:
        for one in _sets_of(ware, file, opened):
            try:
                outcomes[store.take_in(one)] += 1
            except OSError as error:
                raise CacheError(f"{cache_dir}: {ware.name} cannot be kept there: {error.strerror}") from error
            note(files(outcomes.total()))
        count_bytes = opened.tell()
    if refused := outcomes[Imported.REFUSED]:
        raise ware.error(
            f"{file}: other {ware.name} of {refused:,} of {outcomes.total():,} files are proven here, and stay:"
            f" {ware.contradicted}; the rest was imported"
        )
    return Moved(outcomes.total(), count_bytes, outcomes[Imported.NEW])


def _sets_of(ware: Ware[_Set], file: Path, opened: BinaryIO) -> Iterator[_Set]:
    for number in range(1, 1 << 62):
        position = opened.tell()
        try:
            one = ware.read_set(opened)
        except SetError as error:
            before = f"; the {ware.name} of {files(number - 1)} before it were imported" if number > 1 else ""
            raise ware.error(
                f"{file}: at byte {position:,}: {error}{before}: '{ware.command} export' writes such a file anew, or"
                " copy it again"
            ) from error
        if one is None:
            return
        yield one


# Both


@contextmanager
def _failures_of(ware: Ware[_Set], file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ware.error(f"{file}: {what}: {error.strerror}") from error


def _seldom(note: Note) -> Note:
    """Passes a note on every two seconds: work that is soon done says nothing."""
    last = [time.monotonic()]

    def pass_on(text: str) -> None:
        if time.monotonic() - last[0] >= _NOTE_SECONDS:
            last[0] = time.monotonic()
            note(text)

    return pass_on
