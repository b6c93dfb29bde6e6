"""How fast files came when they were fetched last, as a whole, to a scope of a cache: an estimate for the next time.

    blocks-v2/<scope>/.measured-rate        bytes a second

It is advice. Where it cannot be written or read, there is none.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.cache.content_folder import FORMAT
from vbnfs.host.atomic import replace_file
from vbnfs.host.places import Place, folder_at

_FILE: Final = ".measured-rate"
_LEAST_BYTES: Final = 8 << 20  # less says little: connections have to be made first


def note_rate(directory: Path | Place, scope: str, count_bytes: int, seconds: float) -> None:
    """So many bytes came in so long a time."""
    if count_bytes >= _LEAST_BYTES and seconds > 0:
        with suppress(OSError):
            replace_file(folder_at(directory) / FORMAT / scope / _FILE, f"{count_bytes / seconds:.0f}\n".encode())


def last_rate(directory: Path | Place, scope: str) -> int | None:
    """Bytes a second; None where nothing was measured."""
    try:
        rate = int((folder_at(directory) / FORMAT / scope / _FILE).read_bytes().decode("ascii"))
    except (OSError, ValueError):
        return None
    return rate if rate > 0 else None
