"""Which processes another one has started."""

from contextlib import suppress
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The processes whose parent this is, by any of its threads, zombies included (proc_pid_stat(5)).

    `/proc/PID/task/TID/children` is not asked: it goes away with its thread, and may leave out a process while
    another one ends.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(process.name))
    return sorted(found)
