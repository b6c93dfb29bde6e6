"""What the system grants this process, and less where that is wanted: getrlimit(2), setrlimit(2)."""

import time
from contextlib import suppress
from typing import Final

try:
    import resource
except ImportError:  # another system than Linux: no limit is known
    _HAS_LIMITS = False
else:
    _HAS_LIMITS = True

_OOM_SCORE: Final = "/proc/self/oom_score_adj"
_FIRST_TO_END: Final = "1000"


def open_files() -> int | None:
    """How many files may be open; None without a limit."""
    return _limit("RLIMIT_NOFILE", hard=False)


def most_open_files() -> int | None:
    """To how many that can be raised; None without a limit."""
    return _limit("RLIMIT_NOFILE", hard=True)


def most_data_bytes() -> int | None:
    """How much memory the process may take (RLIMIT_DATA); None without a limit."""
    return _limit("RLIMIT_DATA", hard=True)


def most_file_bytes() -> int | None:
    """How large a file can be that this process writes (RLIMIT_FSIZE); None without a limit."""
    return _limit("RLIMIT_FSIZE", hard=True)


def raise_files() -> None:
    """Let as many files be open, and as large ones be written, as the system grants."""
    if _HAS_LIMITS:
        for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
            _, hard = resource.getrlimit(number)
            resource.setrlimit(number, (hard, hard))


def take_little_memory(most_bytes: int) -> None:
    """Have this process fail to get more memory than that (RLIMIT_DATA), and end first if the machine has none.

    Of the latter see proc_pid_oom_score_adj(5). No limit is raised, and where there is none, nothing happens.
    """
    if _HAS_LIMITS:
        granted = most_data_bytes()
        most_bytes = most_bytes if granted is None else min(most_bytes, granted)
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    with suppress(OSError), open(_OOM_SCORE, "w") as file:
        file.write(_FIRST_TO_END)


def take_little_time(seconds: int) -> None:
    """Have the kernel end this process once it has taken so much more processor time (RLIMIT_CPU, SIGXCPU).

    The limit can be set anew. Where there is none, nothing happens.
    """
    if _HAS_LIMITS:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        until = int(time.process_time()) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (until if hard == resource.RLIM_INFINITY else min(until, hard), hard))


def open_nothing_more() -> None:
    """Have this process open no file, socket or pipe from now on (RLIMIT_NOFILE). Those that are open stay so."""
    if _HAS_LIMITS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _limit(name: str, *, hard: bool) -> int | None:
    if not _HAS_LIMITS:
        return None
    limit = resource.getrlimit(getattr(resource, name))[hard]
    return None if limit == resource.RLIM_INFINITY else limit
