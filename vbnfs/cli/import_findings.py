"""What `vbnfs import` says of each file, and in the end of all (pure)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vbnfs.cli.file_finding import Finding
from vbnfs.cli.render import files, size
from vbnfs.errors import DatasetError, NotVerifiedError

if TYPE_CHECKING:
    from vbnfs.cli.found_files import FoundFile, Recognised

TAKEN: Final = "taken"
WOULD_TAKE: Final = "would take"  # by its name or size; only its hash will show what it is
NO_ROOM: Final = "no room"  # beside those that would be taken before it
THERE: Final = "there"  # the cache has it
WRONG: Final = "wrong"  # the name of a file of the dataset, and other bytes
NO_HASH: Final = "no hash"  # in the manifest
UNKNOWN: Final = "unknown"  # not of the dataset
UNREADABLE: Final = "unreadable"
LEFT_OUT: Final = "left out"  # of a cache whose owner is not believed
REFUSED: Final = "refused"  # to be read in place: others than those who are believed could change it
NOT_KEPT: Final = "not kept"  # taken, and gone again
FORGOTTEN: Final = "forgotten"  # not read in place any more
WOULD_FORGET: Final = "would forget"

_BAD: Final = frozenset({WRONG, UNREADABLE, REFUSED, NOT_KEPT})
OF_INTEREST: Final = _BAD | {NO_HASH, LEFT_OUT, WOULD_TAKE, NO_ROOM, WOULD_FORGET}  # named even without --verbose
_WITH_BYTES: Final = frozenset({TAKEN, WOULD_TAKE, NO_ROOM, THERE, FORGOTTEN, WOULD_FORGET})  # in the summary
_REMEDY: Final = "it was cut short or changed: delete it, and read the file through vbnfs"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of each file. `problem` is why an import would take none, if a dry run found that."""

    findings: tuple[Finding, ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Reports:
    """What is called on the way: `show` with each finding, `progress` with how many bytes are done and are to be."""

    show: Callable[[Finding], None]
    progress: Callable[[int, int], None]


def unwanted(file: "FoundFile", known: "Recognised") -> tuple[str, int, str]:
    """Outcome, size and detail of a file that is not to be taken."""
    if known.candidates:
        return THERE, file.size_bytes, ""
    if any(content.size_bytes == file.size_bytes for content in known.names):
        return NO_HASH, file.size_bytes, "the manifest has no hash of it, so nothing would prove it"
    return other_bytes(file, known)


def other_bytes(file: "FoundFile", known: "Recognised") -> tuple[str, int, str]:
    """The same, of one that has the bytes of no file of the dataset."""
    if not known.names:
        return UNKNOWN, file.size_bytes, ""
    sizes = sorted({content.size_bytes for content in known.names})
    if file.size_bytes in sizes:
        return WRONG, file.size_bytes, f"its bytes are not the released ones: {_REMEDY}"
    released = " or ".join(f"{size_bytes:,}" for size_bytes in sizes)
    return WRONG, file.size_bytes, f"{file.size_bytes:,} bytes, the released file has {released}: {_REMEDY}"


def summary(findings: Sequence[Finding]) -> str:
    """A line: how many files became what, and how many bytes those are."""
    counts = Counter(finding.outcome for finding in findings)
    parts = [f"{count} {outcome}{_bytes_of(findings, outcome)}" for outcome, count in sorted(counts.items())]
    return f"{files(len(findings))}: {', '.join(parts) or 'none'}"


def _bytes_of(findings: Sequence[Finding], outcome: str) -> str:
    if outcome not in _WITH_BYTES:
        return ""
    return f" ({size(sum(one.size_bytes for one in findings if one.outcome == outcome))})"


def check_any(findings: Sequence[Finding], folder: Path) -> None:
    """Raise `DatasetError` where no file is of the dataset."""
    if not findings:
        raise DatasetError(f"{folder}: no file is there; name a folder with files of the dataset")
    if all(finding.outcome == UNKNOWN for finding in findings):
        raise DatasetError(
            f"{folder}: no file of this dataset is there ({files(len(findings))} looked at): if they are of another"
            " dataset, name it by --dataset"
        )


def check(findings: Sequence[Finding]) -> None:
    """Raise `NotVerifiedError` for files that should be in the cache and are not."""
    bad = [finding for finding in findings if finding.outcome in _BAD]
    if bad:
        raise NotVerifiedError(f"{len(bad)} of {len(findings)} files are not in the cache; each is named above")
