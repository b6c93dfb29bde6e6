"""Which program a process is, and whether it runs."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.waiting import until
from vbnfs.host.processes import (
    Program,
    has_exited,
    has_open_for_writing,
    is_thread_alive,
    name_of_process,
    pending_signals,
    program_of,
    programs_in,
)

USES = {
    "is in it": "os.chdir(folder)",
    "is below it": "os.chdir(folder / 'inner')",
    "has a file open": "file = (folder / 'inner' / 'file').open()",
    "has a file mapped": "with open(folder / 'inner' / 'file') as f: m = mmap.mmap(f.fileno(), 0, prot=1)",
    "is beside it": "os.chdir(f'{folder}-beside'); file = (folder.parent / 'folder-beside' / 'file').open()",
}


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


@pytest.mark.parametrize("use", USES)
def test_programs_that_use_a_folder(use: str, tmp_path: Path) -> None:
    """A process is found that is in a folder, or has a file there open or mapped; not one in a folder beside it."""
    folder = tmp_path / "folder"
    for place in (folder / "inner", tmp_path / "folder-beside"):
        place.mkdir(parents=True)
        (place / "file").write_text("x")
    script = "import mmap, os, sys; from pathlib import Path; folder = Path(sys.argv[1])"
    command = [sys.executable, "-c", f"{script}\n{USES[use]}\nprint('ready', flush=True); sys.stdin.read()", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = [program.pid for program in programs_in(folder)]
        process.communicate("")
    assert found == ([] if use == "is beside it" else [process.pid])
    with (folder / "inner" / "file").open():
        assert programs_in(folder) == []  # a process does not name itself


def test_a_file_that_a_process_writes(tmp_path: Path) -> None:
    """It is found by its name while any thread of the process has it open for writing; not while it only reads."""
    (tmp_path / "file").write_text("x")

    def is_found() -> bool:
        return has_open_for_writing(os.getpid(), "file")

    for flags, expected in ((os.O_RDONLY, False), (os.O_WRONLY, True), (os.O_RDWR | os.O_APPEND, True)):
        descriptor = os.open(tmp_path / "file", flags)
        assert is_found() == expected
        assert not has_open_for_writing(os.getpid(), "another")
        os.close(descriptor)
        assert not is_found()
    assert not has_open_for_writing(0, "file")


def test_the_name_of_a_process() -> None:
    """It is that of its first thread, whichever thread asks; None for what is not there."""
    named, ends, numbers = threading.Event(), threading.Event(), list[int]()

    def run() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("another")
        numbers.append(threading.get_native_id())
        named.set()
        ends.wait()

    thread = threading.Thread(target=run)
    thread.start()
    named.wait()
    [number] = numbers
    expected = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    assert program_of(number) == Program(os.getpid(), "another")
    assert name_of_process(number) == name_of_process(os.getpid()) == expected != "another"
    ends.set()
    thread.join()
    assert name_of_process(0) is None


def test_threads_that_are_alive() -> None:
    """A thread is alive by its own number until it ends, whichever user's it is; so is a process."""
    ends, numbers = threading.Event(), list[int]()
    thread = threading.Thread(target=lambda: (numbers.append(threading.get_native_id()), ends.wait()))
    thread.start()
    until(lambda: bool(numbers))
    assert numbers[0] != os.getpid()
    assert all(map(is_thread_alive, (numbers[0], os.getpid(), 1)))
    ends.set()
    thread.join()
    until(lambda: not is_thread_alive(numbers[0]))
