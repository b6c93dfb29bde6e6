"""What the disk of the cache says, and what it means.

disk_question.py asks for the facts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.sampling import Sample
from vbnfs.doctor.findings import Finding, counted, failed, good, left_out, note, size_text, to_do
from vbnfs.errors import CacheError, MountError

_MOST_ABOVE: Final = 1.05  # of its size, which several processes that write at the same time may take
_REFUSED: Final = "the-cache-directory-is-refused"
_FULL: Final = "disk-full-no-space-left-on-device"
_PINS: Final = "nothing-is-kept-because-of-pins"
_NO_CACHE: Final = "there is no cache yet"
_UNUSABLE: Final = "the folder of the cache cannot be used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a cache directory holds. `sample` are some of its blocks, read."""

    usage_bytes: int
    limit_bytes: int
    sample: Sample
    pins_problem: str | None = None
    mismatched_files: int = 0
    unused_text: str | None = None  # that there are files of an earlier vbnfs


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """Of the cache directory, its disk, and the daemon's log.

    `refusal`: the cache cannot be used. `stored` is None where there is none yet; then `parent` is the folder in
    which it would be made. `no_room`: why the disk takes nothing.
    """

    directory: Path
    refusal: CacheError | None = None
    parent: Path | None = None
    may_be_made: bool = True
    file_system: str = ""
    is_local: bool = True
    is_seen_late: bool = False  # hosts see late what others write there
    free_bytes: int = 0
    reserve_bytes: int = 0
    no_room: str | None = None
    stored: Stored | None = None
    others: tuple[str, ...] = ()  # what keeps other caches and an index from being used
    rate_bytes: int | None = None  # the limit that is stored
    log_file: Path | None = None
    log_refusal: MountError | None = None
    log_lines: tuple[str, ...] = ()  # its end


def decide_folder(facts: DiskFacts) -> Iterator[Finding]:
    """Whether a cache can be there, and other caches are."""
    where = facts.directory
    if facts.refusal is not None:
        yield failed(facts.refusal)
    elif facts.stored is None and not facts.may_be_made:
        yield to_do(
            f"{where}: {_NO_CACHE}, and you may not make one in {facts.parent}",
            "choose another one with --cache-dir",
            section=_REFUSED,
        )
    elif facts.stored is None:
        yield good(f"{where}: {_NO_CACHE}, and the first mount makes it, on {facts.file_system}")
    elif not facts.is_local:
        yield note(
            f"{where}: yours alone, on {facts.file_system}, which other hosts may use at the same time: each block is"
            " fetched once for all of them (docs/shared-cache.md); for one host alone a disk of its own is faster,"
            " and lets the kernel read whole files itself"
        )
    else:
        yield good(f"{where}: yours alone, on {facts.file_system}")
    if facts.is_seen_late:
        yield note(
            f"{where}: mounted with 'nocto': if several hosts use it, each sees late what others have stored, and"
            " fetches some of it again; without that option it sees it at once"
        )
    for problem in facts.others:
        yield to_do(problem, section="an-index-is-refused" if problem.startswith("--index") else _REFUSED)


def decide_disk(facts: DiskFacts) -> Iterator[Finding]:
    """Whether what is fetched can be stored."""
    if facts.refusal is not None:
        yield left_out(_UNUSABLE)
    elif facts.no_room is not None:
        yield to_do(facts.no_room, section=_FULL)
    else:
        free, reserve = size_text(facts.free_bytes), size_text(facts.reserve_bytes)
        stored = "; what is fetched is stored" if facts.stored is not None else ""
        yield good(f"{free} free, of which {reserve} stay free for others{stored}")


def decide_cache(facts: DiskFacts) -> Iterator[Finding]:
    """Whether what is stored is well."""
    stored = facts.stored
    if stored is None:
        yield left_out(_NO_CACHE if facts.refusal is None else _UNUSABLE)
        return
    problems = list(_problems_of(stored))
    usage, limit, sample = size_text(stored.usage_bytes), size_text(stored.limit_bytes), stored.sample
    blocks, files = counted(sample.blocks, "block"), counted(sample.contents, "file")
    read = f"; {blocks} of {files} {'was' if sample.blocks == 1 else 'were'} read, and none is damaged"
    if not problems:
        yield good(f"{usage} of {limit}{read if sample.blocks else ''}")
    yield from problems
    if stored.unused_text is not None:
        yield note(stored.unused_text)


def _problems_of(stored: Stored) -> Iterator[Finding]:
    usage, limit, sample = size_text(stored.usage_bytes), size_text(stored.limit_bytes), stored.sample
    if stored.pins_problem is not None:
        yield to_do(stored.pins_problem, section=_PINS)
    elif stored.usage_bytes > stored.limit_bytes * _MOST_ABOVE + BLOCK_BYTES:
        remedy = "'vbnfs clean' brings it within its size, or --cache-size gives it a larger one"
        yield to_do(f"it takes {usage} of {limit}", remedy, section="the-cache-takes-more-than-it-may")
    if sample.damaged:
        yield to_do(
            f"{sample.damaged:,} of {sample.blocks:,} blocks that were read are damaged; no program gets them, and"
            " they are fetched again",
            "check the disk, and what else writes there ('dmesg'); 'vbnfs verify' reads all of the cache",
            section="cached-blocks-are-damaged",
        )
    if stored.mismatched_files:
        files = "1 file has" if stored.mismatched_files == 1 else f"{stored.mismatched_files:,} files have"
        yield to_do(
            f"{files} another hash than the manifest says, and cannot be read",
            "'vbnfs verify --fetch FILE' fetches one anew; the daemon's log names them",
            section="vbnfs-verify-does-not-say-good",
        )


def decide_log(facts: DiskFacts) -> Iterator[Finding]:
    """Whether a daemon can write its log."""
    yield failed(facts.log_refusal) if facts.log_refusal is not None else good(str(facts.log_file))
