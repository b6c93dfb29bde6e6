"""A name for this process that no other one has, on any host; and whether the process of such a name has ended.

    <host name>/<boot id>/<process id namespace>/<process id>/<start time>

The boot's id is random (random(4), boot_id). Process ids count within a namespace (pid_namespaces(7)), and a process
begins at a time, in clock ticks since boot (proc_pid_stat(5)), so an id that was given again is another name. Only a
process of this boot and namespace can be known to have ended.
"""

import os
import socket
from functools import cache
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/self/ns/pid")
_START_FIELD: Final = 22  # of proc_pid_stat(5), counted from 1; the second one, in parentheses, may hold blanks
_SEPARATOR: Final = "/"


def name_of_this_process() -> str:
    """The name, without blanks, and short enough for a symbolic link."""
    return _SEPARATOR.join((*_where_we_are(), str(os.getpid()), _start_of(os.getpid()) or "0"))


def has_ended(name: str) -> bool:
    """Whether a process is known to have ended. False for one that cannot be asked about from here."""
    parts, here = name.split(_SEPARATOR), _where_we_are()
    if tuple(parts[:-2]) != here or not here[1] or not (parts[-2].isascii() and parts[-2].isdigit()):
        return False
    return _start_of(int(parts[-2])) != parts[-1]


@cache
def _where_we_are() -> tuple[str, str, str]:
    host = socket.gethostname().replace(_SEPARATOR, "-") or "localhost"
    try:
        boot, namespace = _BOOT.read_text().strip(), os.readlink(_NAMESPACE).strip("pid:[]")
    except OSError:  # another system, or no /proc: no process can be asked about
        boot = namespace = ""
    return host, boot, namespace


def _start_of(pid: int) -> str | None:
    """When a process began; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[_START_FIELD - 3]
