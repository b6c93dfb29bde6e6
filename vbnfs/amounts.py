"""Amounts as people read them: bytes, files (pure)."""

from collections.abc import Sequence


def size(size_bytes: int | None) -> str:
    """Bytes in units of 1024, as --cache-size takes them: 1.2 GiB; '-' if they are unknown."""
    if size_bytes is None:
        return "-"
    unit, suffix = _unit(size_bytes, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
    return f"{size_bytes / unit:.{0 if unit == 1 else 1}f} {suffix}"


def short_size(size_bytes: int) -> str:
    """Bytes in units of 1024 as `ls -h` writes them, at most five characters: 1.2G, 188M, 512."""
    unit, suffix = _unit(size_bytes, ["", "K", "M", "G", "T", "P"])
    value = size_bytes / unit
    return f"{value:.{1 if suffix and value < 9.95 else 0}f}{suffix}"


def files(count: int) -> str:
    """How many files: 1 file, 18 files."""
    return f"{count:,} file{'' if count == 1 else 's'}"


def _unit(size_bytes: int, suffixes: Sequence[str]) -> tuple[int, str]:
    """The largest unit that a size has one of, in bytes, and its name."""
    unit = 1
    for suffix in suffixes:
        if abs(size_bytes) < 1024 * unit:
            return unit, suffix
        unit *= 1024
    return unit // 1024, suffixes[-1]
