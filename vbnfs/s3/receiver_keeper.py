"""The process that receives (receiver_child.py), seen from the daemon: started, heard, and started again.

All of it happens in one thread, which lives as long as the process is to: the kernel ends the process with the thread
that started it (host/die_with_parent.py). The process gets a socket and no other descriptor, and ends with it.
"""

import errno
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from vbnfs.errors import ReceiverLostError, TransportError
from vbnfs.host import die_with_parent
from vbnfs.host.message_link import Letter, Link, Sender
from vbnfs.host.processes import has_exited
from vbnfs.objects import OpenStore, Piece, Stored
from vbnfs.s3.arrivals import Mailbox
from vbnfs.s3.generations import Generations
from vbnfs.s3.ranges import Event, Failed, RangeGet
from vbnfs.s3.receiver_codec import CODEC
from vbnfs.s3.receiver_messages import Begin, Came, End, Ended, Ping, Ready, Retired, Said, Setup, Taken

log = structlog.get_logger()

MOST_DEATHS: Final = 3  # in a row
_LONG_SECONDS: Final = 60.0  # a life that is longer begins a new row
_FIRST_WAIT_SECONDS: Final = 0.1
_SILENCE_SECONDS: Final = 1.0  # then it is asked whether it is there
_ANSWER_SECONDS: Final = 10.0  # for the answer, and for its start
_END_SECONDS: Final = 6.0  # until it has ended, and what it is storing is stored
_KILL_SECONDS: Final = 1.0
_JOIN_SECONDS: Final = 10.0


class RemoteTransfer(Mailbox):
    """A GET that is under way in the process: its events, and the reports of what was taken."""

    def __init__(self, get: RangeGet, number: int, put: Callable[[object], None]) -> None:
        super().__init__(lambda count_bytes: put(Taken(number, count_bytes)))
        self.get = get
        self.number = number

    # In the keeper's thread

    def hear(self, event: Event, data: bytes) -> None:
        """What the process says of it."""
        if isinstance(event, Piece):
            event = replace(event, data=data)
        elif isinstance(event, Stored) and self.get.request.sink is not None:
            self.get.request.sink.note_stored(event.start, event.stop)
        self.post(event)


class _Life:
    """A process, from its start to its end. For the keeper's thread. Raises `OSError` if it cannot be started."""

    def __init__(self, command: Sequence[str], is_quiet: Callable[[], bool]) -> None:
        ours, its = socket.socketpair()
        self.is_ready = False
        self._is_quiet = is_quiet
        self._asked_at: float | None = time.monotonic()
        self.link: Final = Link(ours, CODEC, silence_seconds=_SILENCE_SECONDS, on_silence=self._look)
        self.sender: Final = Sender(self.link)
        try:
            with its:
                self._process = _start(command, its)
        except OSError:
            self._close()
            raise

    def note(self) -> None:
        """It has said something."""
        self._asked_at = None

    def _look(self) -> None:
        """It has said nothing for a second. Raises `OSError` if it has ended, or does not answer.

        Its socket does not show that as long as a thread of it waits for a disk: the kernel closes it behind that.
        """
        if has_exited(self._process.pid):
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        if self.is_ready and self._is_quiet():
            self._asked_at = None
        elif self._asked_at is None:
            self._asked_at = time.monotonic()
            self.sender.put(Ping())
        elif time.monotonic() - self._asked_at > _ANSWER_SECONDS:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def end(self, *, at_once: bool) -> str:
        """Have it end, or kill it; how it has ended."""
        if at_once:
            self._process.kill()
        self._close()
        for seconds in (_END_SECONDS, _KILL_SECONDS):
            try:
                return _in_words(self._process.wait(seconds))
            except subprocess.TimeoutExpired:
                self._process.kill()
        # It waits for a disk, and ends as soon as that answers; until something waits for it then, it is a zombie.
        with suppress(RuntimeError):  # no thread can be had
            threading.Thread(target=self._process.wait, name="receiver's end", daemon=True).start()
        return "it does not end"

    def _close(self) -> None:
        self.link.end()
        self.sender.stop()
        self.link.close()


class Keeper:
    """Keeps a process that receives, until it has died `MOST_DEATHS` times in a row.

    Where either finds that connections are dead, `generations` are retired in both (generations.py).
    """

    def __init__(self, command: Sequence[str], setup: Setup, generations: Generations) -> None:
        self._command = command
        self._generations = generations
        self._setup = setup
        self._numbers = itertools.count()
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # of what follows
        self._life: _Life | None = None
        self._gets: dict[int, RemoteTransfer] = {}
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)

    def start(self) -> None:
        """Begin to keep one. Raises `RuntimeError` if no thread can be had."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and what is under way. Waits until it has ended."""
        self._stopped.set()
        with self._lock:
            if self._life is not None:
                self._life.link.end()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)

    # On the event loop

    @property
    def is_ready(self) -> bool:
        """Whether there is a process that takes GETs."""
        life = self._life
        return life is not None and life.is_ready

    def begin(self, get: RangeGet, opened: OpenStore | None) -> RemoteTransfer | None:
        """Begin a GET, which may store what comes; None if no process is ready."""
        bare = replace(get, request=replace(get.request, sink=None))
        plan, descriptors = (None, ()) if opened is None else (opened.plan, opened.descriptors)
        transfer = RemoteTransfer(get, next(self._numbers), self._put)
        begin = Begin(transfer.number, bare, plan, self._generations.number)
        with self._lock:
            if self._life is None or not self._life.is_ready:
                return None
            self._gets[transfer.number] = transfer
            self._life.sender.put(begin, descriptors=descriptors, owner=opened)
        return transfer

    def end(self, transfer: RemoteTransfer) -> None:
        """Nothing more of a GET is wanted, whether it is over or not."""
        transfer.close()
        self._put(End(transfer.number))

    def _put(self, message: object) -> None:
        with self._lock:
            if self._life is not None:
                self._life.sender.put(message)

    # In the thread

    def _run(self) -> None:
        deaths = 0
        while not self._stopped.is_set():
            began = time.monotonic()
            reason = self._live()
            if self._stopped.is_set():
                return
            deaths = 1 if time.monotonic() - began > _LONG_SECONDS else deaths + 1
            if deaths >= MOST_DEATHS:
                text = f"the receiving process has ended {deaths} times in a row; the daemon receives by itself"
                log.warning(text, reason=reason)
                return
            log.info("the receiving process has ended; it is started again", reason=reason)
            self._stopped.wait(_FIRST_WAIT_SECONDS * 4 ** (deaths - 1))

    def _live(self) -> str:
        """A life of the process; how it ended."""
        try:
            life = _Life(self._command, lambda: not self._gets)
        except (OSError, RuntimeError) as error:  # no program, no process or no thread to be had
            return str(error)
        is_broken = False
        try:
            with self._lock:
                self._life = life
            if not self._stopped.is_set():
                life.sender.put(self._setup)
                self._listen(life)
        except OSError:
            is_broken = True
        except Exception:  # a defect; GETs would wait for a process that nothing hears
            log.exception("unexpected failure of what the receiving process said")
            is_broken = True
        finally:
            self._fail_all()
        return life.end(at_once=is_broken if not self._stopped.is_set() else not life.is_ready)

    def _listen(self, life: _Life) -> None:
        while (letter := life.link.receive()) is not None:
            life.note()
            self._follow(life, letter)

    def _follow(self, life: _Life, letter: Letter) -> None:
        match letter.message:
            case Came(number, event) if (transfer := self._gets.get(number)) is not None:
                transfer.hear(event, letter.data)
            case Ended(number):
                with self._lock:
                    self._gets.pop(number, None)
            case Ready():
                life.is_ready = True
            case Retired():
                self._generations.retire()
            case Said(level, event, fields):
                getattr(log, level)(event, **fields)

    def _fail_all(self) -> None:
        with self._lock:
            self._life = None
            failed, self._gets = self._gets, {}
        for transfer in failed.values():
            about = f"{transfer.get.request.version}: "
            error: TransportError = ReceiverLostError(f"{about}the receiving process has ended")
            if self._stopped.is_set():
                error = TransportError(f"{about}the connections are being closed")
            transfer.post(Failed(error))


def _start(command: Sequence[str], its: socket.socket) -> subprocess.Popen[bytes]:
    """Start it where no signal of a terminal reaches it, tied to this thread. Raises `OSError`."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid()), *command],
        cwd="/",
        stdin=its.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _in_words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-status}"
