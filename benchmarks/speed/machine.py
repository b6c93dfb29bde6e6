"""What the machine is, and what its kernel does for a measurement: processor time, memory, dropping pages."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
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
    """User and system time of processes so far (proc_pid_stat(5)); those that have ended count no more."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


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
