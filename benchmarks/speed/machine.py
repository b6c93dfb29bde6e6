"""What the machine is, and what its kernel does for a measurement: processor time, memory, dropping pages."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

_DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")


def describe() -> dict[str, str | float | int]:
    """The machine, and its load now: 1 means that one processor is busy."""
    model = next(
        (row.partition(":")[2].strip() for row in _lines("/proc/cpuinfo") if row.startswith("model name")), ""
    )
    memory_kib = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "processors": os.cpu_count() or 0,
        "processor": model,
        "memory_gib": round(memory_kib / (1 << 20), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def processor_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes so far, and of their children that have ended (proc_pid_stat(5)).

    A process that is no child of another one and has ended counts no more.
    """
    ticks = sum(int(field) for pid in pids for field in _stat(pid)[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process, its descendants and all others of its session (proc_pid_stat(5)): its helpers, however started."""
    stats = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    return members(pid, {one: (int(stat[1]), int(stat[3])) for one, stat in stats.items() if stat})


def members(pid: int, processes: Mapping[int, tuple[int, int]]) -> list[int]:
    """`pid`, and those of which it is an ancestor or the session, given each one's parent and session (pure)."""
    found, left = [pid], [one for one in processes if one != pid]
    while new := [one for one in left if processes[one][0] in found or processes[one][1] == pid]:
        found += new
        left = [one for one in left if one not in new]
    return found


def _stat(pid: int) -> list[str]:
    """The fields behind the program's name: state, parent, group, session, ...; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def memory_bytes(pids: Iterable[int], field: str) -> int:
    """`VmHWM`, `RssAnon` ... of processes together (proc_pid_status(5))."""
    total = 0
    for pid in pids:
        line = next((line for line in _lines(f"/proc/{pid}/status") if line.startswith(field + ":")), "x 0")
        total += int(line.split()[1]) << 10
    return total


def drop_from_memory(files: Sequence[Path]) -> str:
    """Have the kernel forget what it holds of files. Returns how: all caches as root, else these files alone."""
    os.sync()
    if os.access(_DROP_CACHES, os.W_OK):
        _DROP_CACHES.write_text("3")
        return "drop_caches"
    for path in files:
        advise_dropping(path)
    return "posix_fadvise"


def advise_dropping(path: Path) -> None:
    """The same for one file, also of a mount."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def bring_into_memory(files: Sequence[Path]) -> None:
    """Read files, so that the next to do it finds them."""
    for path in files:
        subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
