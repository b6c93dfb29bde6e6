"""Which program a process is."""

import os
import subprocess
import sys
import threading

from vbnfs.host.processes import Program, program_of


def test_a_program_by_any_of_its_threads() -> None:
    """A thread's number leads to its process; what has ended, and what cannot be seen (0), to none."""
    found: list[Program | None] = []
    thread = threading.Thread(target=lambda: found.append(program_of(threading.get_native_id())))
    thread.start()
    thread.join()
    ours = program_of(os.getpid())
    assert ours is not None
    assert found == [ours]
    assert ours.pid == os.getpid()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert program_of(ended.pid) is None
    assert program_of(0) is None
