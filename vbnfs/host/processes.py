"""Which program a process is, whether it runs, and what it has open, as /proc has it: proc(5)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")


class Program(NamedTuple):
    """A process, and the name of its program, of 15 bytes at the most."""

    pid: int
    name: str


def name_this_process(name: str) -> None:
    """Have ps, top and pgrep show a name of at most 15 bytes for this process: proc_pid_comm(5)."""
    with suppress(OSError):
        (_PROC / "self" / "comm").write_text(name)


def name_of(thread: int) -> str | None:
    """The name of the program that a thread runs; None if there is none (any more) that can be seen from here."""
    try:
        return (_PROC / str(thread) / "comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return None


def program_of(thread: int) -> Program | None:
    """The process to which a thread belongs; None if there is none (any more) that can be seen from here."""
    fields = _status_of(thread)
    try:
        return Program(int(fields["Tgid"]), fields["Name"])
    except (KeyError, ValueError):
        return None


def name_of_process(thread: int) -> str | None:
    """The name of the process to which a thread belongs: that of its first thread; None if it cannot be seen."""
    program = program_of(thread)
    if program is None or program.pid == thread:
        return None if program is None else program.name
    return name_of(program.pid)


def has_exited(pid: int) -> bool:
    """Whether a process runs no program any more. It may be there still: a thread of it waits in the kernel."""
    return _status_of(pid).get("State", "Z").startswith(("Z", "X"))


def pending_signals(thread: int) -> frozenset[int] | None:
    """The signals that a thread will get as soon as it leaves the kernel; None if it cannot be seen from here.

    Those that it blocks are not among them. One that ends its process is SIGKILL to each thread (signal(7)).
    """
    fields = _status_of(thread)
    try:
        own, shared, blocked = (int(fields[name], 16) for name in ("SigPnd", "ShdPnd", "SigBlk"))
    except (KeyError, ValueError):
        return None
    pending = (own | shared) & ~blocked
    return frozenset(number for number in range(1, pending.bit_length() + 1) if pending >> (number - 1) & 1)


def programs_in(folder: Path) -> list[Program]:
    """The processes that are in a folder or below it, or have a file there open or mapped, but for this process.

    Those of other users are found by root alone. Links of /proc are read and not followed: the folder may be a mount
    whose daemon does not answer.
    """
    below = f"{folder}/"
    others = [name for name in os.listdir(_PROC) if name.isdecimal() and int(name) != os.getpid()]
    found = [name for name in others if any(f"{path}/".startswith(below) for path in _uses(name))]
    return [program for name in found if (program := program_of(int(name))) is not None]


def _uses(process: str) -> Iterator[str]:
    """The paths of a process's folders, open files and mapped files."""
    place = _PROC / process
    links = [place / "cwd", place / "root", place / "exe"]
    with suppress(OSError):  # of another user, or it has ended
        links += (place / "fd").iterdir()
    for link in links:
        with suppress(OSError):
            yield os.readlink(link)
    with suppress(OSError):
        for line in (place / "maps").read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
            yield line.partition("/")[1] + line.partition("/")[2]


def has_open_for_writing(thread: int, name: str) -> bool:
    """Whether the process of a thread has a file of this name open for writing, in whatever folder.

    False where that cannot be seen: it has ended, or is a process that we may not look into (ptrace(2)).
    """
    place = _PROC / str(thread)
    with suppress(OSError):
        for link in (place / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                if os.readlink(link).rpartition("/")[2] == name and _is_for_writing(place / "fdinfo" / link.name):
                    return True
    return False


def _is_for_writing(info: Path) -> bool:
    """Whether an open file is, by its `flags`, which are octal: proc_pid_fdinfo(5)."""
    flags = next(line for line in info.read_text().splitlines() if line.startswith("flags:"))
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY


def is_thread_alive(thread: int) -> bool:
    """Whether there is a thread of this number, of any user: kill(2) without a signal."""
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _status_of(thread: int) -> dict[str, str]:
    """Empty if there is none."""
    try:
        lines = (_PROC / str(thread) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
