"""Which program a process is, and whether it runs."""

import os
import signal
import subprocess
import sys
import threading

from tests.waiting import until
from vbnfs.host.processes import Program, has_exited, pending_signals, program_of


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


def test_what_has_exited() -> None:
    """A process that nothing has waited for is there still, and runs nothing any more; nor does one that is gone."""
    assert not has_exited(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: has_exited(ended.pid))
    assert ended.wait() == 0
    assert has_exited(ended.pid)


def test_signals_that_a_thread_will_get() -> None:
    """What was sent to a stopped process is pending, to itself or to all of its threads, unless it is blocked."""
    code = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); print(flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert pending_signals(process.pid) == frozenset()
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            process.send_signal(number)
        assert pending_signals(process.pid) == {signal.SIGUSR2, signal.SIGALRM}
        process.kill()
    assert pending_signals(process.pid) is None
    assert pending_signals(0) is None
