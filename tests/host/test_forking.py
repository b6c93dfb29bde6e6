"""Locks of which a child of fork(2) does not inherit the state."""

import subprocess
import sys

PROGRAM = """
import os, threading
from vbnfs.host.forking import LockOfProcess
lock, is_held = LockOfProcess(), threading.Event()

def hold():
    with lock():
        is_held.set()
        threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
is_held.wait()
child = os.fork()
if child == 0:
    with lock(), lock():
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_lock_that_another_thread_holds() -> None:
    """A child that is forked meanwhile has it free, and takes it twice."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("7\n", "")
