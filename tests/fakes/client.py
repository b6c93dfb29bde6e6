"""`MemoryClient`: an `ObjectClient` without a network, which counts, fails on demand, and waits at gates."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import trio

from tests.fakes.store import MemoryStore, StoredVersion
from vbnfs.errors import BadReplyError, ChangedError, ObjectGoneError, StorageError
from vbnfs.objects import (
    ByteRange,
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectVersion,
    Piece,
    RangeRequest,
    Receive,
)

Kind = Literal["reach", "list_objects", "list_versions", "head", "get_object", "get_range"]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. `name` is the key, or a listing's prefix."""

    kind: Kind
    name: str
    version_id: str | None = None
    byte_range: ByteRange | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An error instead of an answer, in a range after the first `after_bytes` of it."""

    error: StorageError
    after_bytes: int = 0


Matches = Callable[[Request], bool]
Fails = Callable[[Request], Failure | StorageError | None]


def anything(request: Request) -> bool:
    """Every request."""
    return True


class Gate:
    """Holds the requests that match until it is opened; a range is held after its first `after_bytes`."""

    def __init__(self, matches: Matches, after_bytes: int) -> None:
        self.matches = matches
        self.after_bytes = after_bytes
        self.arrived: list[Request] = []
        self._opened = trio.Event()
        self._changed = trio.lowlevel.ParkingLot()

    def open(self) -> None:
        """Let all requests through, now and later."""
        self._opened.set()

    async def wait_arrived(self, count: int = 1) -> None:
        """Wait until `count` requests have come to the gate (since it was made)."""
        while len(self.arrived) < count:
            await self._changed.park()

    async def pass_through(self, request: Request) -> None:
        self.arrived.append(request)
        self._changed.unpark_all()
        await self._opened.wait()


class MemoryClient:
    """Reads a `MemoryStore`.

    `requests` holds every request in order, `sent_bytes` what was handed to `receive`, `in_flight` how many
    requests are unanswered now, and `most_in_flight` the most there ever were. Ranges come in pieces of
    `piece_bytes`, which may be a function (of Hypothesis, say) that is asked for each piece's length.
    """

    def __init__(self, store: MemoryStore, *, piece_bytes: int | Callable[[], int] = 64 << 10) -> None:
        self.store = store
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._piece_bytes = piece_bytes
        self._scripts: dict[Kind, list[Failure | None]] = {}
        self._rules: list[Fails] = []
        self._gates: list[Gate] = []

    def count(self, kind: Kind | None = None) -> int:
        """How many requests there were, of one kind or at all."""
        return len(self.requests) if kind is None else Counter(request.kind for request in self.requests)[kind]

    def ranges(self) -> list[ByteRange]:
        """The ranges asked for, in order."""
        return [request.byte_range for request in self.requests if request.byte_range is not None]

    def fail(self, *failures: Failure | StorageError | None, kind: Kind = "get_range") -> None:
        """The next requests of a kind fail like this, in order; None: this one does not."""
        self._scripts.setdefault(kind, []).extend(_failure(failure) for failure in failures)

    def fail_when(self, rule: Fails) -> None:
        """Requests for which `rule` gives a failure fail with it, from now on. See also `heal`."""
        self._rules.append(rule)

    def heal(self) -> None:
        """No more failures."""
        self._scripts.clear()
        self._rules.clear()

    def hold(self, matches: Matches = anything, *, after_bytes: int = 0) -> Gate:
        """A new gate for requests from now on."""
        gate = Gate(matches, after_bytes)
        self._gates.append(gate)
        return gate

    async def reach(self) -> None:
        """Fails by the rules for requests of the kind `reach`; counts as none."""
        await self._before(Request("reach", ""))

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        with self._counted(Request("list_objects", prefix)) as request:
            await self._before(request)
            rows = self.store.objects(prefix)
            return [ListedObject(row.key, attributes(row)) for row in rows]

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        with self._counted(Request("list_versions", prefix)) as request:
            await self._before(request)
            rows = [row for row in self.store.versions(prefix) if row.data is not None]
            return [ListedVersion(ObjectVersion(row.key, row.version_id), attributes(row)) for row in rows]

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        with self._counted(Request("head", version.key, version.version_id)) as request:
            await self._before(request)
            return attributes(self._stored(version))

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        with self._counted(Request("get_object", key)) as request:
            await self._before(request)
            row = self._stored(ObjectVersion(key, None))
            if row.size_bytes > max_bytes:
                raise BadReplyError(f"{key}: more than {max_bytes:,} bytes")
            return self.store.data(key)

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        version, byte_range, size_bytes = request.version, request.byte_range, request.size_bytes
        assert len(byte_range), "an empty range was asked for"
        with self._counted(Request("get_range", version.key, version.version_id, byte_range)) as counted:
            failure = await self._before(counted)
            row = self._stored(version)
            if row.size_bytes != size_bytes or byte_range.stop > size_bytes:
                raise ChangedError(f"{version}: the object has {row.size_bytes} bytes, not {size_bytes}")
            await self._send(counted, row, receive, failure)

    async def _send(self, request: Request, row: StoredVersion, receive: Receive, failure: Failure | None) -> None:
        assert row.data is not None
        assert request.byte_range is not None
        gates = [gate for gate in self._gates if gate.after_bytes and gate.matches(request)]
        position, stop = request.byte_range.start, request.byte_range.stop
        while True:
            sent = position - request.byte_range.start
            for gate in [gate for gate in gates if gate.after_bytes == sent]:
                await gate.pass_through(request)
            if failure is not None and sent == failure.after_bytes:
                raise failure.error
            if position == stop:
                return
            stops = [gate.after_bytes for gate in gates] + ([failure.after_bytes] if failure else [])
            until = min([stop, *(request.byte_range.start + length for length in stops if length > sent)])
            until = min(until, position + self._next_piece_bytes())
            piece = Piece(position, row.data[position:until])
            self.sent_bytes += len(piece.data)
            await receive(piece)
            position = until

    async def _before(self, request: Request) -> Failure | None:
        """Gates and failures that come before the first byte; a failure that comes later is returned."""
        await trio.lowlevel.checkpoint()
        failure = self._next_failure(request)
        for gate in [gate for gate in self._gates if not gate.after_bytes and gate.matches(request)]:
            await gate.pass_through(request)
        if failure is not None and failure.after_bytes == 0:
            raise failure.error
        return failure

    def _next_failure(self, request: Request) -> Failure | None:
        if script := self._scripts.get(request.kind):
            return script.pop(0)
        failures = (_failure(rule(request)) for rule in self._rules)
        return next((failure for failure in failures if failure is not None), None)

    def _next_piece_bytes(self) -> int:
        return self._piece_bytes if isinstance(self._piece_bytes, int) else max(1, self._piece_bytes())

    @contextmanager
    def _counted(self, request: Request) -> Iterator[Request]:
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield request
        finally:
            self.in_flight -= 1

    def _stored(self, version: ObjectVersion) -> StoredVersion:
        row = self.store.get(version.key, version.version_id)
        if row is None or row.data is None:
            raise ObjectGoneError(f"{version}: S3 does not have this (any more)")
        return row


_NS_PER_SECOND: Final = 1_000_000_000


def attributes(row: StoredVersion) -> ObjectAttributes:
    """Size and time, in whole seconds as HEAD gives them."""
    return ObjectAttributes(row.size_bytes, int(row.modified.timestamp()) * _NS_PER_SECOND, row.etag.strip('"'))


def _failure(failure: Failure | StorageError | None) -> Failure | None:
    return Failure(failure) if isinstance(failure, StorageError) else failure
