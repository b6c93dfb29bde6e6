"""The synchronous door: one trio thread a process, used from anywhere, and closed at the end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from structlog.testing import capture_logs

from tests.fakes.dataset import serve
from tests.fakes.store import Pattern
from vbnfs.access import door
from vbnfs.access.dataset import open_dataset
from vbnfs.access.door import opened, run
from vbnfs.access.versions import load_versions
from vbnfs.access.whole_files import whole_files
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.errors import DatasetError, OfflineError

FILES = {f"ecephys_sessions/{number}.nwb": Pattern(300_000 + number, seed=number) for number in range(8)}
ENDS_SECONDS = 60


@pytest.fixture
def config() -> Iterator[Config]:
    """Settings for a server of a dataset with some files."""
    with serve({"0.1.0": FILES}) as server:
        yield load_config(command_line={"endpoint_url": server.endpoint_url})


async def thread_of_the_loop() -> int:
    await trio.lowlevel.checkpoint()
    return threading.get_ident()


@asynccontextmanager
async def noting(notes: list[str]) -> AsyncIterator[list[str]]:
    """Notes how it is left."""
    try:
        yield notes
        notes.append("in order")
    except BaseException as error:
        notes.append(type(error).__name__)
        raise


def test_a_dataset_from_several_threads(config: Config) -> None:
    """Files are read by threads at the same time, whole and right, by one event loop."""
    with opened(open_dataset(config)) as dataset:
        versions = dataset.run(load_versions, dataset.value)
        files = versions.manifest(None).files
        with opened(whole_files(versions)) as reading, ThreadPoolExecutor(len(files)) as threads:
            found = list(threads.map(lambda file: reading.run(reading.value, file), files))
            loops = set(threads.map(lambda _: run(thread_of_the_loop), files))
    assert {"/".join(file.path): data for file, data in zip(files, found, strict=True)} == {
        path: pattern[: len(pattern)] for path, pattern in FILES.items()
    }
    assert len(loops) == 1
    assert loops != {threading.get_ident()}


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


def test_the_caller_shows_how_far_it_is() -> None:
    """While a call is waited for, its caller's own thread is called back, and can end it by an error."""
    shown: list[int] = []
    with opened(nothing()) as door:
        assert door.run_showing(lambda: shown.append(1), thread_of_the_loop) != threading.get_ident()

        def show() -> None:
            shown.append(threading.get_ident())
            raise ValueError("enough")

        with pytest.raises(ValueError, match="enough"):
            door.run_showing(show, trio.sleep_forever)
    assert shown[-1] == threading.get_ident()


@pytest.mark.parametrize("error", [DatasetError("no such version"), KeyError("a defect"), SystemExit(3)])
def test_errors_come_out_as_they_are(error: BaseException) -> None:
    """What is raised is the very same exception."""

    async def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run(fail)
    assert caught.value is error


def test_an_error_of_a_nursery() -> None:
    """A problem that a task met comes out of the nursery's group; a defect comes with the group."""

    async def in_a_nursery(error: Exception) -> None:
        async def fail() -> None:
            raise error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    problem = OfflineError("not reached")
    with pytest.raises(OfflineError) as caught:
        run(in_a_nursery, problem)
    assert caught.value is problem
    with pytest.RaisesGroup(KeyError):
        run(in_a_nursery, KeyError("a defect"))


def test_an_error_while_it_is_opened(config: Config) -> None:
    """What keeps a manager from being entered is raised, and its body not begun."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        raise DatasetError("no dataset")
        yield

    with pytest.raises(DatasetError, match="no dataset"), opened(broken()):
        raise AssertionError


def test_leaving_it() -> None:
    """Left in order the manager ends in order; an exception in the body cancels it, and comes out."""
    notes: list[str] = []
    with opened(noting(notes)) as manager:
        assert manager.value is notes
    with pytest.raises(KeyError), opened(noting(notes)):
        raise KeyError
    assert notes == ["in order", "Cancelled"]


def test_an_exception_while_it_is_left() -> None:
    """What is raised when a manager ends is raised where the body ends."""

    @asynccontextmanager
    async def ends_badly() -> AsyncIterator[None]:
        yield
        raise DatasetError("not written")

    with pytest.raises(DatasetError, match="not written"), opened(ends_badly()):
        pass


def test_ctrl_c_cancels_the_call() -> None:
    """An interrupted call is cancelled, and has ended when KeyboardInterrupt comes; the next one works."""
    notes: list[str] = []

    async def wait_to_be_interrupted() -> None:
        async with noting(notes):
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run(wait_to_be_interrupted)
    assert notes == ["Cancelled"]
    assert run(thread_of_the_loop) != threading.get_ident()


def test_a_call_in_the_loops_own_thread() -> None:
    """Where waiting would wait for itself, it is refused."""

    async def call() -> None:
        run(thread_of_the_loop)

    with pytest.raises(RuntimeError, match="await it instead"):
        run(call)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python 3.12 and later: it has threads
def test_after_a_fork(config: Config) -> None:
    """A child has an event loop of its own, and is refused what its parent opened; the parent's goes on."""
    with opened(open_dataset(config)) as dataset:
        child = os.fork()
        if child == 0:
            status = 1
            with suppress(BaseException):
                status = forked(config, dataset)
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert dataset.run(load_versions, dataset.value).manifest(None).files


def forked(config: Config, parents: door.Opened) -> int:  # type: ignore[type-arg]
    """The child: 0 if all is as it should be."""
    with opened(open_dataset(config)) as dataset:
        versions = dataset.run(load_versions, dataset.value)
        with opened(whole_files(versions)) as reading:
            file = versions.manifest(None).files[0]
            if reading.run(reading.value, file) != FILES["/".join(file.path)][: len(FILES["/".join(file.path)])]:
                return 2
    try:
        parents.run(load_versions, parents.value)
    except RuntimeError:
        return 0
    return 3


BEGINNING = """
import os, threading, time
from contextlib import ExitStack, asynccontextmanager
import trio
from vbnfs.access import door
def say(what):
    os.write(1, f"{what}\\n".encode())
@asynccontextmanager
async def manager():
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(say, "closed")
stack = ExitStack()
"""
LEFT_OPEN = """
stack.enter_context(door.opened(manager()))
"""
A_THREAD_THAT_GOES_ON = """
def go_on():
    threading.main_thread().join()
    door.run(trio.sleep, 0)
    say("went on")
stack.enter_context(door.opened(manager()))
threading.Thread(target=go_on).start()
"""
A_THREAD_THAT_WAITS = """
def wait():
    try:
        door.run(trio.sleep_forever)
    except RuntimeError:
        pass
stack.enter_context(door.opened(manager()))
threading.Thread(target=wait, daemon=True).start()
"""
LEFT_AT_THE_VERY_END = """
import atexit
stack.enter_context(door.opened(manager()))
atexit.register(stack.close)
"""
A_DISK_THAT_HANGS = """
door._END_SECONDS = 0.2
async def hang():
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(time.sleep, 1000)
threading.Thread(target=door.run, args=(hang,), daemon=True).start()
door.run(trio.sleep, 0)
"""


@pytest.mark.parametrize(
    ("program", "output"),
    [
        (LEFT_OPEN, "closed\n"),
        (A_THREAD_THAT_GOES_ON, "went on\nclosed\n"),
        (A_THREAD_THAT_WAITS, "closed\n"),
        (LEFT_AT_THE_VERY_END, "closed\n"),
        (A_DISK_THAT_HANGS, ""),
        (LEFT_OPEN + "raise SystemExit(0)", "closed\n"),
    ],
    ids=[
        "left open",
        "a thread that goes on",
        "a thread that waits",
        "the very end",
        "a disk that hangs",
        "sys.exit",
    ],
)
def test_the_end_of_the_process(program: str, output: str) -> None:
    """What is open is closed when no thread is left for which Python waits; nothing else holds the end up."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + program], capture_output=True, text=True, timeout=ENDS_SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == output


def test_a_loop_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no event loop can be had, the call fails and does not wait for it; the next one tries again."""
    monkeypatch.setattr(door, "_current", None)
    with monkeypatch.context() as patch:
        patch.setattr(trio, "run", lambda *_: os.listdir("/nonexistent"))
        with pytest.raises(FileNotFoundError):
            door.run(trio.sleep, 0)
    door.run(trio.sleep, 0)


def fail() -> None:
    raise MemoryError("too much")


def test_a_function_that_fails_in_the_loop() -> None:
    """What is called there without being waited for fails alone, and is logged: the loop goes on."""
    with capture_logs() as logged, opened(nothing()) as manager:
        before = manager.run(thread_of_the_loop)
        manager.soon(fail)
        assert manager.run(thread_of_the_loop) == before
    assert [entry["event"] for entry in logged] == ["failed in the event loop"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_failed() -> None:
    """What was open in it is refused in words; the next call has another loop."""
    with opened(nothing()) as manager:
        failed = door._trio_thread()
        failed._token.run_sync_soon(fail)
        failed._thread.join()
        with pytest.raises(RuntimeError, match="the event loop failed"):
            manager.run(thread_of_the_loop)
        assert run(thread_of_the_loop)
        assert door._trio_thread() is not failed
