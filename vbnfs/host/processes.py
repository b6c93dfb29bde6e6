"""Which program a process is, and whether it runs, as /proc has it: proc(5)."""

from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")


class Program(NamedTuple):
    """A process, and the name of its program, of 15 bytes at the most."""

    pid: int
    name: str


def program_of(thread: int) -> Program | None:
    """The process to which a thread belongs; None if there is none (any more) that can be seen from here."""
    fields = _status_of(thread)
    try:
        return Program(int(fields["Tgid"]), fields["Name"])
    except (KeyError, ValueError):
        return None


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


def _status_of(thread: int) -> dict[str, str]:
    """Empty if there is none."""
    try:
        lines = (_PROC / str(thread) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
