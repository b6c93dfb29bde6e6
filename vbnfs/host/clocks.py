"""A clock that all processes of a machine share, that no program sets, and that goes on while the machine sleeps."""

import time
from typing import Final

_HAS_BOOT_TIME: Final = hasattr(time, "CLOCK_BOOTTIME")
_HAS_GETTIME: Final = hasattr(time, "clock_gettime")


def boot_time() -> float:
    """Seconds since some moment: CLOCK_BOOTTIME of clock_gettime(2).

    On macOS CLOCK_MONOTONIC goes on as well, unlike `time.monotonic`. On Windows that is the one that there is.
    """
    if _HAS_BOOT_TIME:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.clock_gettime(time.CLOCK_MONOTONIC) if _HAS_GETTIME else time.monotonic()
