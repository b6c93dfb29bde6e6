"""The synchronous door: async functions of a dataset, called from a program without an event loop.

    with opened(open_dataset(config)) as dataset:
        versions = dataset.run(load_versions, dataset.value)
        with opened(whole_files(versions)) as files:
            table = files.run(files.value, file)

One trio thread a process serves all calls. The first call starts it. After a fork(2) the child starts one of its own;
what the parent opened can only be used by the parent. When the main thread has ended, and all others for which Python
waits, what is open is closed as after Ctrl-C, in some seconds at most: a disk that hangs does not hold the exit up.

Calls come from any thread that runs no event loop, and wait for the result. Errors come out as they are, those of
nurseries out of their groups (`root_error`). Ctrl-C cancels the call, and is raised when the call has ended.
"""

import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, Generic, TypeVar

import structlog
import trio

from vbnfs.access.collecting import leave_garbage_to_others
from vbnfs.errors import root_error
from vbnfs.host.forking import LockOfProcess, after_fork_in_child

log = structlog.get_logger()

_LOOK_SECONDS: Final = 0.5
_END_SECONDS: Final = 10.0  # more than the last writes of a source of blocks may take
_ENDS: Final = "this process ends, and what was open is closed"
_FAILED: Final = "the event loop failed, and Python printed why: close the dataset, and open it again"
_FORKED: Final = "opened before this process was forked: open it again here"

T = TypeVar("T")
Result = TypeVar("Result")


def run(work: Callable[..., Awaitable[Result]], *arguments: Any) -> Result:
    """The result of `work(*arguments)`, awaited in this process's trio thread. Raises what it raises."""
    return _Call(_trio_thread(), lambda: work(*arguments)).run()


class Opened(Generic[T]):
    """What an async context manager gave: to be used by functions that run in the trio thread."""

    def __init__(self, value: T, thread: "_TrioThread") -> None:
        self.value: Final = value
        self._thread = thread

    def run(self, work: Callable[..., Awaitable[Result]], *arguments: Any) -> Result:
        """As the function `run`. Raises `RuntimeError` in a process that was forked since."""
        if self._thread.pid != os.getpid():
            raise RuntimeError(_FORKED)
        return _Call(self._thread, lambda: work(*arguments)).run()

    def run_showing(
        self, show: Callable[[], object], work: Callable[..., Awaitable[Result]], *arguments: Any
    ) -> Result:
        """As `run`; while it waits, it calls `show` now and then, in the thread of the caller."""
        if self._thread.pid != os.getpid():
            raise RuntimeError(_FORKED)
        return _Call(self._thread, lambda: work(*arguments), show).run()

    def soon(self, function: Callable[[], object]) -> None:
        """Have a function called in the trio thread, later. It is not waited for, and is not called after the end."""
        if self._thread.pid == os.getpid():
            self._thread.soon(function)


@contextmanager
def opened(manager: AbstractAsyncContextManager[T]) -> Iterator[Opened[T]]:
    """Keep an async context manager entered in the trio thread. Raises what entering or leaving it raises.

    An exception in the body cancels what the manager has under way, and is raised when that has ended.
    """
    thread, values, leave = _trio_thread(), list[T](), trio.Event()

    async def hold() -> None:
        async with manager as value:
            values.append(value)
            entered.set_result(None)
            await leave.wait()

    entered = Future[None]()
    call = _Call(thread, hold)
    try:
        call.start()
        call.wait_for(entered)
        yield Opened(values[0], thread)
    except BaseException:
        call.cancel()
        raise
    if thread.pid == os.getpid():
        thread.soon(leave.set)
        try:
            call.wait()
        except RuntimeError:
            if not thread.is_closing and not thread.has_failed:  # then all that is open is closed in any case
                raise


class _Call(Generic[Result]):
    """Work to be done in the trio thread. `show` is called now and then by the thread that waits for it."""

    def __init__(
        self,
        thread: "_TrioThread",
        work: Callable[[], Awaitable[Result]],
        show: Callable[[], object] = lambda: None,
    ) -> None:
        self._thread = thread
        self._work = work
        self._show = show
        self._result = Future[Result]()
        self._scope = trio.CancelScope()

    def run(self) -> Result:
        """Do it, and wait for the result. An interrupt of the waiting cancels the work."""
        try:
            self.start()
            return self.wait()
        except BaseException:
            self.cancel()
            raise

    def start(self) -> None:
        """Begin. Raises `RuntimeError` when called in that thread."""
        if threading.get_ident() == self._thread.ident:
            self._result.cancel()
            raise RuntimeError("called in the thread whose event loop is to do the work: await it instead")
        if not self._thread.soon(self._begin):
            self._result.set_exception(RuntimeError(self._thread.why_it_ends))

    def wait(self) -> Result:
        """The result, or the error, once it is there. An interrupt of the waiting cancels the work."""
        try:
            self._wait_until([self._result])
            return self._result.result()
        except BaseException:
            self.cancel()
            raise

    def _wait_until(self, either: "Sequence[Future[Any]]") -> None:
        """Return when one of them is there.

        A signal that comes just before the main thread begins to wait does not wake it: so it looks now and then.
        """
        while not wait(either, _LOOK_SECONDS, return_when=FIRST_COMPLETED).done:
            self._show()

    def wait_for(self, event: "Future[Any]") -> None:
        """Wait until `event` is there, or raise the error because of which it will not come."""
        self._wait_until([event, self._result])
        if not event.done():
            self._result.result()

    def cancel(self) -> None:
        """Cancel the work, if it has not ended, and wait for its end, some seconds at most.

        Also called by destructors: in the thread that does the work nothing waits for it.
        """
        if not self._result.done() and self._thread.pid == os.getpid():
            self._thread.soon(self._scope.cancel)
            if threading.get_ident() != self._thread.ident:
                wait([self._result], _END_SECONDS)

    def _begin(self) -> None:
        try:
            if not self._thread.begin(self._do):
                self._result.set_exception(RuntimeError(self._thread.why_it_ends))
        except Exception as error:  # as where memory is lacking: the caller waits for an answer
            self._result.set_exception(error)

    async def _do(self) -> None:
        error: BaseException = RuntimeError("cancelled")
        try:
            with self._scope:
                self._result.set_result(await self._work())
                return
        except BaseExceptionGroup as group:
            error = root_error(group)
        except BaseException as raised:
            error = raised
        # Its own scope lets no `Cancelled` out: such a one is of the whole loop.
        is_for_all = self._thread.is_closing or isinstance(error, trio.Cancelled)
        self._result.set_exception(RuntimeError(self._thread.why_it_ends) if is_for_all else error)


class _TrioThread:
    """A thread that runs an event loop until all that use it have ended. Raises what keeps it from beginning."""

    def __init__(self) -> None:
        leave_garbage_to_others()
        self.pid: Final = os.getpid()
        self.is_closing = False  # whether all tasks are cancelled, since the process ends
        self._ready = Future[None]()
        # A daemon thread, which the interpreter does not wait for; the other one it does wait for.
        self._thread = threading.Thread(target=self._run, name="vbnfs", daemon=True)
        self._thread.start()
        self._ready.result()
        _AtExit(target=self._close_at_exit, name="vbnfs-exit", daemon=False).start()

    @property
    def ident(self) -> int | None:
        """As threading.get_ident() gives it there."""
        return self._thread.ident

    @property
    def has_failed(self) -> bool:
        """Whether it has ended, though the process goes on."""
        return not self._thread.is_alive() and not self.is_closing

    @property
    def why_it_ends(self) -> str:
        """Why nothing more is done, in words."""
        return _ENDS if self.is_closing else _FAILED

    def soon(self, function: Callable[[], object]) -> bool:
        """Call a function in the thread; False where that has ended. What it raises is logged."""
        try:
            self._token.run_sync_soon(_call, function)
        except trio.RunFinishedError:
            return False
        return True

    def begin(self, task: Callable[[], Awaitable[None]]) -> bool:
        """Begin a task, in the thread; False if that is about to end."""
        if self.is_closing:
            return False
        self._nursery.start_soon(task)
        return True

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)  # there is no event loop to be had

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._ready.set_result(None)
            await trio.sleep_forever()

    def _close_at_exit(self) -> None:
        threading.main_thread().join()
        while (thread := _thread_that_python_waits_for()) is not None:
            thread.join()
        self.is_closing = True
        self.soon(self._nursery.cancel_scope.cancel)
        self._thread.join(_END_SECONDS)


def _call(function: Callable[[], object]) -> None:
    """What a function raised here would end the event loop (`trio.lowlevel.TrioToken.run_sync_soon`)."""
    try:
        function()
    except Exception:
        log.exception("failed in the event loop", what=repr(function))


class _AtExit(threading.Thread):
    """Closes what is open when all others have ended."""


def _thread_that_python_waits_for() -> threading.Thread | None:
    """Some thread of the program that runs, and is no daemon thread."""
    threads = (one for one in threading.enumerate() if one.is_alive() and not one.daemon)
    return next((one for one in threads if not isinstance(one, _AtExit)), None)


_lock: Final = LockOfProcess()
_current: _TrioThread | None = None


def _trio_thread() -> _TrioThread:
    """The trio thread of this process, started if need be: also where one has failed."""
    global _current  # noqa: PLW0603 - one a process
    with _lock():
        if _current is None or _current.has_failed:
            _current = _TrioThread()
        return _current


def _forget() -> None:
    """In a child of fork(2) there are no threads but the one that forked."""
    global _current  # noqa: PLW0603 - one a process
    _current = None


after_fork_in_child(_forget)
