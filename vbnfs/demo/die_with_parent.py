"""Become another program that is killed when the thread that started it ends.

Run as a script, by path: `python -I die_with_parent.py PARENT PROGRAM ARGUMENT...`. The kernel's parent-death signal
has to be asked for in the new process; doing it here, in a process of its own, instead of between fork and exec keeps
arbitrary Python code out of the child of a program with many threads. The setting survives exec. It belongs to
the *thread* that forked, so whoever starts a tether keeps that thread alive for as long as the program shall run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Tie this process to process id `arguments[0]`, its parent, and exec the program in the rest."""
    parent, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):  # it ended before the signal was asked for
        sys.exit("the parent process has ended")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
