"""What `vbnfs export` says: what it would do, and what became of each file (pure)."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from vbnfs.access.filling import Progress
from vbnfs.cli.file_finding import Finding
from vbnfs.cli.render import files, lfp_left_out, size
from vbnfs.errors import ExportError

EXPORTED: Final = "exported"
THERE: Final = "there"  # since an earlier export
REPLACED: Final = "replaced"  # another file had its name
LINKED: Final = "linked"  # to a mount
NO_HASH: Final = "no hash"  # in the manifest: exported as S3 has it
NOT_HERE: Final = "not here"  # in the cache, and S3 is not asked
FAILED: Final = "failed"
OF_INTEREST: Final = frozenset({REPLACED, NO_HASH, NOT_HERE, FAILED})  # named even where nothing else is


@dataclass(frozen=True, slots=True)
class Plan:
    """What an export would do. Sizes in bytes.

    Of `files` there are `there_files` already. `copied_bytes` are to be written, and `missing_bytes` fetched before.
    """

    dataset_version: str
    folder: str
    way: str
    files: int
    size_bytes: int
    there_files: int
    copied_bytes: int
    missing_bytes: int
    free_bytes: int
    left_out_files: int
    left_out_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The plan with its fields' names."""
        return asdict(self)

    def left_out_line(self) -> str | None:
        """What is not exported because it is LFP; None if nothing is."""
        return lfp_left_out(self.left_out_files, self.left_out_bytes)

    def lines(self) -> list[str]:
        """The plan in words."""
        there = f"; {self.there_files:,} of them are there" if self.there_files else ""
        done = f"{size(self.copied_bytes)} to copy" if self.copied_bytes else f"nothing to copy ({self.way})"
        what = f"{self.dataset_version}: {files(self.files)}, {size(self.size_bytes)}{there}; {done}"
        room = f"{self.folder}: {size(self.free_bytes)} free; {size(self.missing_bytes)} to fetch"
        return [what, room]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did. `problem` is why it did nothing, where it was found before the first file."""

    plan: Plan
    findings: tuple[Finding, ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Reports:
    """What is called on the way: with the plan, with each finding; `bar` shows how far it is, until cancelled."""

    announce: Callable[[Plan], None]
    show: Callable[[Finding], None]
    bar: Callable[[Progress], Awaitable[None]]


def summary(findings: Sequence[Finding]) -> str:
    """A line: how many files became what, and how many bytes those are."""
    counts = Counter(finding.outcome for finding in findings)
    sizes = {name: sum(one.size_bytes for one in findings if one.outcome == name) for name in counts}
    parts = [f"{count:,} {name} ({size(sizes[name])})" for name, count in sorted(counts.items())]
    return f"{files(len(findings))}: {', '.join(parts)}"


def check(findings: Sequence[Finding]) -> None:
    """Raise `ExportError` for files that should be there and are not."""
    if failed := [finding for finding in findings if finding.outcome == FAILED]:
        raise ExportError(f"{len(failed):,} of {files(len(findings))} are not there; each is named above")
