"""Which program a process is, as /proc has it: proc(5)."""

from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")


class Program(NamedTuple):
    """A process, and the name of its program, of 15 bytes at the most."""

    pid: int
    name: str


def program_of(thread: int) -> Program | None:
    """The process to which a thread belongs; None if there is none (any more) that can be seen from here."""
    try:
        lines = (_PROC / str(thread) / "status").read_text(errors="replace").splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return Program(int(fields["Tgid"]), fields["Name"])
    except (OSError, KeyError, ValueError):
        return None
