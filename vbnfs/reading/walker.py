"""The process that walks the structure of files (walker_program.py), seen from the daemon.

It is started when it is asked for the first time, and again when it has died. It gets a socket and no other
descriptor, and ends with it. Where a system has no socket to give it (Windows), the thread that asks walks itself.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import vbnfs
from vbnfs.hdf5.structure import Extent, RowEnds
from vbnfs.host.message_link import CAN_LINK, Letter, Link
from vbnfs.reading.walker_words import BOUNDED_SECONDS, CODEC

# Behind all others for the processor from its start on: programs that read do not wait for it.
_PROGRAM: Final = "; ".join(
    [
        "import os, sys",
        "os.nice(19)",
        "sys.path[:] = sys.argv[1:]",
        "from vbnfs.reading.walker_program import main",
        "main()",
    ]
)
_PACKAGE_PARENT: Final = Path(vbnfs.__file__).parents[1]
_SILENCE_SECONDS: Final = 2 * BOUNDED_SECONDS  # no step takes so long


class Step(NamedTuple):
    """What a step of a walk has come to: which blocks it lacks besides those that it lacked before.

    `extents` are arrays of which it knows more than before. `is_of_indexes`: the blocks have indexes of chunks.
    `has_all`: nothing but such indexes was left out. `beside` are blocks that programs read along.
    """

    wave: frozenset[int]
    is_over: bool
    extents: tuple[Extent, ...] = ()
    is_of_indexes: bool = False
    has_all: bool = False
    beside: tuple[int, ...] = ()


class Walker:
    """One process for all walks of a mount. All methods but `close` wait for it: they are for threads."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._life: tuple[Link, subprocess.Popen[bytes]] | None = None
        self._begun: set[int] = set()  # walks that the process knows
        self._is_closed = False

    @property
    def process(self) -> int | None:
        """Its process id, if there is one."""
        life = self._life
        return None if life is None else life[1].pid

    def go_on(self, walk: int, size_bytes: int, blocks: Iterable[tuple[int, bytes | memoryview]]) -> Step:
        """Have a walk of a file of `size_bytes` go on with more of its blocks. Raises `OSError` if it cannot."""
        with self._alone():
            try:
                link = self._link()
                if walk not in self._begun:
                    link.send(Letter(["begin", walk, size_bytes]))
                    self._begun.add(walk)
                for index, data in blocks:
                    link.send(Letter(["block", walk, index], bytes(data)))
                link.send(Letter(["go", walk]))
                answer = link.receive()
                if answer is None:
                    raise OSError("the process that walks has ended")
            except OSError:
                self._lose()
                raise
        return _step(answer.message)

    def start(self) -> None:
        """Have the process there, for walks that will come. Raises `OSError` if it cannot be started."""
        with self._alone():
            try:
                self._link()
            except OSError:  # also where `close` came while it was being started
                self._lose()
                raise

    def end(self, walk: int) -> None:
        """Forget a walk."""
        with self._alone():
            if self._life is not None and walk in self._begun:
                self._begun.discard(walk)
                try:
                    self._life[0].send(Letter(["end", walk]))
                except OSError:
                    self._lose()

    def close(self) -> None:
        """End the process. A thread that waits for it gets an `OSError`; no other process is started."""
        self._is_closed = True
        life = self._life  # a thread may lose it meanwhile
        if life is not None:
            life[0].end()
            life[1].kill()
        if self._asking.acquire(blocking=False):  # else the thread that asks sees to the rest
            self._lose()
            self._asking.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """For one thread that asks, which then does what `close` had to leave to it."""
        try:
            with self._asking:
                yield
        finally:
            if self._is_closed:
                self.close()

    def _link(self) -> Link:
        if self._life is None and not self._is_closed:
            ours, its = socket.socketpair()
            with its:
                try:
                    process = _start(its)
                except OSError:
                    ours.close()
                    raise
            link = Link(ours, CODEC, silence_seconds=_SILENCE_SECONDS, on_silence=process.kill)
            self._life = link, process
        if self._life is None or self._is_closed:
            raise OSError("the mount is going away")
        return self._life[0]

    def _lose(self) -> None:
        if self._life is not None:
            link, process = self._life
            self._life = None
            self._begun.clear()
            link.close()
            process.kill()
            process.wait()


class WalkerHere:
    """The same without a process: while a thread walks, others wait for the interpreter's lock."""

    process: Final = None

    def __init__(self) -> None:
        from vbnfs.reading.walker_program import Walks  # noqa: PLC0415 - no mount needs it

        self._walks = Walks()
        self._asking = threading.Lock()
        self._begun: set[int] = set()

    def go_on(self, walk: int, size_bytes: int, blocks: Iterable[tuple[int, bytes | memoryview]]) -> Step:
        """See `Walker`."""
        with self._asking:
            if walk not in self._begun:
                self._walks.follow(["begin", walk, size_bytes], b"")
                self._begun.add(walk)
            for index, data in blocks:
                self._walks.follow(["block", walk, index], bytes(data))
            answer = self._walks.follow(["go", walk], b"")
        return _step(CODEC.decode(CODEC.encode(answer)))

    def start(self) -> None:
        """See `Walker`: it is there."""

    def end(self, walk: int) -> None:
        """See `Walker`."""
        with self._asking:
            self._begun.discard(walk)
            self._walks.follow(["end", walk], b"")

    def close(self) -> None:
        """See `Walker`: nothing is to be ended."""


def new_walker() -> Walker | WalkerHere:
    """What walks, as this system has it."""
    return Walker() if CAN_LINK else WalkerHere()


def _step(answer: list[Any]) -> Step:
    wave, is_over, extents, is_of_indexes, has_all, beside = answer
    return Step(frozenset(wave), is_over, tuple(map(_extent, extents)), is_of_indexes, has_all, tuple(beside))


def _extent(fields: list[Any]) -> Extent:
    start, stop, row_bytes, rows, chunks, is_filtered = fields
    return Extent(start, stop, row_bytes, None if rows is None else RowEnds(*rows), tuple(chunks), is_filtered)


def _start(its: socket.socket) -> subprocess.Popen[Any]:
    """Start it where no signal of a terminal reaches it. Raises `OSError`.

    It is to be there soon, so Python does not look for packages (-I, -S), and is given where they are.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_PACKAGE_PARENT), *filter(os.path.isabs, sys.path)],
        cwd="/",
        stdin=its.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
