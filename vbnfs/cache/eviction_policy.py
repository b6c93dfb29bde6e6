"""Which contents to delete (pure): 2Q, so that reading much once does not flush what is used again and again.

Contents stand in two queues, each in the order of last use. A content is *new* until it was used in two periods;
then it is *proven*. The many reads of one sequential reading fall into one period, and count once. Victims are new
ones, as long as these take more than a quarter; then proven ones. So a scan pushes out what it has brought itself. A
content that was evicted is remembered, and comes back as a proven one. The new one that was used last goes last: a
program is reading it now.

Two rules are added to 2Q (Johnson and Shasha, VLDB 1994), because scans are repeated. Contents that came back count
as proven only as far as the proven ones leave room, those that came first: so a daily scan, all of which comes back
each day, takes no room from what is read between. And what was not used for a week goes first.

docs/cache.md has the traces by which this was chosen.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

PERIOD_NS: Final = 2 * 3600 * 10**9  # longer than one reading of a file takes on most lines
REMEMBERED_NS: Final = 7 * 24 * 3600 * 10**9
LOW_WATER: Final = 0.95  # evicted down to this part of the limit, so that it is not done for every block
_NEW_PART: Final = 0.25  # of that, which new contents may take in any case
_PROVEN_PERIODS: Final = 2


@dataclass(frozen=True, slots=True)
class History:
    """In how many periods a content was used, and when the last of them began (nanoseconds since 1970).

    `is_back`: it was evicted, and has not been used in a second period since it came back.
    """

    began_ns: int
    periods: int = 1
    is_back: bool = False

    def after_use(self, now_ns: int) -> "History":
        """The history after a use; `self` in the period that has begun. A clock that was set back begins one, too."""
        return self if 0 <= now_ns - self.began_ns < PERIOD_NS else History(now_ns, self.periods + 1)

    def after_return(self, now_ns: int, *, used_ns: int) -> "History":
        """The history of a content that is fetched again, if this was its own when it was evicted.

        `used_ns` is when it had been used last. What that was long ago is forgotten.
        """
        if now_ns - used_ns > REMEMBERED_NS:
            return History(now_ns)
        after = self.after_use(now_ns)
        return self if after is self else History(now_ns, after.periods, is_back=True)


class Candidate(Protocol):
    """A content in the cache. `used_ns` is its last use; `history` is None if it is not known."""

    @property
    def content_id(self) -> str: ...  # noqa: D102
    @property
    def allocated_bytes(self) -> int: ...  # noqa: D102
    @property
    def used_ns(self) -> int: ...  # noqa: D102
    @property
    def history(self) -> History | None: ...  # noqa: D102


_C = TypeVar("_C", bound=Candidate)


def choose_victims(
    contents: Sequence[_C], *, limit_bytes: int, now_ns: int, protected: Set[str] = frozenset()
) -> list[_C]:
    """Which contents to delete, in this order; none while all together keep within the limit.

    Those with a `protected` id are never deleted; where they alone exceed the limit, nothing else is kept. A victim
    that need not go, because a larger one came after it, stays.
    """
    usage_bytes, target_bytes = sum(one.allocated_bytes for one in contents), int(limit_bytes * LOW_WATER)
    if usage_bytes <= limit_bytes:
        return []
    victims: list[_C] = []
    for one in _in_order([c for c in contents if c.content_id not in protected], target_bytes, now_ns):
        if usage_bytes <= target_bytes:
            break
        victims.append(one)
        usage_bytes -= one.allocated_bytes
    return list(_needed(victims, target_bytes - usage_bytes))


def _in_order(contents: Sequence[_C], target_bytes: int, now_ns: int) -> Iterator[_C]:
    """All of them, the first one to be deleted in front."""
    by_use = deque(sorted(contents, key=_last_use))
    while by_use and now_ns - by_use[0].used_ns > REMEMBERED_NS:
        yield by_use.popleft()
    new, proven = _queues(by_use, target_bytes)
    new_bytes = sum(one.allocated_bytes for one in new)
    while len(new) > 1 and new_bytes > target_bytes * _NEW_PART:
        new_bytes -= new[0].allocated_bytes
        yield new.popleft()
    yield from proven
    yield from new


def _queues(contents: Iterable[_C], target_bytes: int) -> tuple[deque[_C], list[_C]]:
    """The new ones and the proven ones, each by last use."""
    new, proven, back = list[_C](), list[_C](), list[tuple[int, _C]]()
    for one in contents:
        if one.history is None or one.history.periods < _PROVEN_PERIODS:
            new.append(one)
        elif one.history.is_back:
            back.append((one.history.began_ns, one))
        else:
            proven.append(one)
    room_bytes = target_bytes * (1 - _NEW_PART) - sum(one.allocated_bytes for one in proven)
    for _, one in sorted(back, key=lambda pair: pair[0]):
        if one.allocated_bytes <= room_bytes:
            proven.append(one)
            room_bytes -= one.allocated_bytes
        else:
            new.append(one)
    return deque(sorted(new, key=_last_use)), sorted(proven, key=_last_use)


def _needed(victims: Iterable[_C], surplus_bytes: int) -> Iterator[_C]:
    """The victims but for those that fit into what all of them together free too much."""
    for one in victims:
        if one.allocated_bytes <= surplus_bytes:
            surplus_bytes -= one.allocated_bytes
        else:
            yield one


def _last_use(one: Candidate) -> int:
    return one.used_ns
