"""Become another program that is killed when the thread that started it ends.

Run as a script, by path: `python -I die_with_parent.py PARENT PROGRAM ARGUMENT...`. The new process itself has to
request the kernel's parent-death signal. This script does it in a process of its own and not between fork and exec,
so that no Python code runs in the forked child of a program with many threads. The setting survives exec. The signal
is sent when the *thread* that forked ends; the caller keeps that thread alive while the program is to run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

IS_POSSIBLE = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Tie this process to process id `arguments[0]`, its parent, and exec the program in the rest."""
    parent, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):  # it ended before the signal was requested
        sys.exit("the parent process has ended")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
