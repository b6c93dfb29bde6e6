"""What a check finds, as a value (pure)."""

from dataclasses import dataclass
from enum import StrEnum

from vbnfs.errors import VbnfsError


class Level(StrEnum):
    """Whether something needs doing."""

    GOOD = "good"
    NOTE = "note"
    LEFT_OUT = "left out"
    TO_DO = "to do"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in a sentence, which may say what to do; else `remedy` does.

    `section` is the heading of docs/troubleshooting.md that explains it, as a link has it; where there is none, the
    section of `error`, from which this comes.
    """

    level: Level
    text: str
    remedy: str = ""
    section: str = ""
    error: VbnfsError | None = None


def good(text: str) -> Finding:
    """It is as it should be."""
    return Finding(Level.GOOD, text)


def note(text: str) -> Finding:
    """It works, and a user may want to know this."""
    return Finding(Level.NOTE, text)


def left_out(reason: str) -> Finding:
    """It was not checked."""
    return Finding(Level.LEFT_OUT, reason)


def to_do(text: str, remedy: str = "", *, section: str) -> Finding:
    """Something needs doing."""
    return Finding(Level.TO_DO, text, remedy, section)


def failed(error: VbnfsError) -> Finding:
    """The same, as an error has it."""
    return Finding(Level.TO_DO, str(error), error.remedy, error=error)


def counted(count: int, thing: str) -> str:
    """How many: 1 file, 40 files."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def size_text(size_bytes: float) -> str:
    """Bytes in units of 1024: 61.3 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"
