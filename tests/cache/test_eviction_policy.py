"""Which contents go: what was read once before what is used again and again, and no more than needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from vbnfs.cache.eviction_policy import LOW_WATER, PERIOD_NS, REMEMBERED_NS, History, choose_victims

SECOND, DAY = 10**9, 86_400 * 10**9
NOW = 1_800_000_000 * SECOND


@dataclass(frozen=True)
class One:
    """A content."""

    content_id: str
    allocated_bytes: int
    used_ns: int = NOW
    history: History | None = None


def names(contents: Sequence[One]) -> list[str]:
    return [one.content_id for one in contents]


def proven(name: str, size_bytes: int, used_ns: int = NOW, *, is_back: bool = False) -> One:
    return One(name, size_bytes, used_ns, History(used_ns, 2, is_back))


histories = st.none() | st.builds(History, st.integers(NOW - 3 * DAY, NOW), st.integers(1, 4), st.booleans())
some_contents = st.lists(
    st.builds(One, st.uuids().map(str), st.integers(0, 1 << 40), st.integers(NOW - 9 * DAY, NOW), histories),
    max_size=40,
)


@given(contents=some_contents, limit=st.integers(0, 1 << 42))
def test_no_more_than_needed_goes(contents: list[One], limit: int) -> None:
    """Nothing within the limit; else down to 95 % of it, and with any one of the victims it would be more."""
    victims = choose_victims(contents, limit_bytes=limit, now_ns=NOW)
    usage = sum(one.allocated_bytes for one in contents)
    after = usage - sum(one.allocated_bytes for one in victims)
    if usage <= limit:
        assert victims == []
        return
    assert after <= limit * LOW_WATER
    assert all(after + one.allocated_bytes > int(limit * LOW_WATER) for one in victims)
    assert len(set(victims)) == len(victims)


@given(contents=some_contents, limit=st.integers(0, 1 << 42), data=st.data())
def test_what_is_protected_stays(contents: list[One], limit: int, data: st.DataObject) -> None:
    """Also if it alone is more than the limit: then nothing else is kept."""
    kept = data.draw(st.sets(st.sampled_from(names(contents)))) if contents else set()
    victims = choose_victims(contents, limit_bytes=limit, now_ns=NOW, protected=kept)
    assert kept.isdisjoint(names(victims))
    others = [one for one in contents if one.content_id not in kept and one.allocated_bytes]
    if sum(one.allocated_bytes for one in contents if one.content_id in kept) > limit:
        assert set(victims) >= set(others)


@given(
    uses=st.lists(st.tuples(st.integers(NOW - DAY, NOW), st.integers(1, 3)), max_size=40), limit=st.integers(1, 40)
)
def test_proven_contents_keep_three_quarters(uses: list[tuple[int, int]], limit: int) -> None:
    """No proven one goes while new ones, but for the last, have more than a quarter."""
    contents = [One(f"{n}", 1000, used, History(used, periods)) for n, (used, periods) in enumerate(uses)]
    victims = choose_victims(contents, limit_bytes=limit * 1000, now_ns=NOW)
    if any(one.history and one.history.periods > 1 for one in victims):
        new = [one for one in contents if one not in victims and one.history and one.history.periods < 2]
        assert len(new) <= max(1, limit * LOW_WATER / 4)


def test_new_ones_go_before_proven_ones() -> None:
    """However much later they were used; the one that was used last, which is being read, goes last of them."""
    contents = [proven("again", 60, NOW - DAY), *(One(f"{n}", 20, NOW - n) for n in range(3))]
    assert names(choose_victims(contents, limit_bytes=100, now_ns=NOW)) == ["2", "1"]


def test_new_ones_may_have_a_quarter() -> None:
    """Below it the least recently used of the proven ones goes: what was new yesterday may become proven."""
    contents = [proven("old", 40, NOW - 2), proven("young", 50, NOW - 1), One("x", 10, NOW - 3), One("y", 10)]
    assert names(choose_victims(contents, limit_bytes=100, now_ns=NOW)) == ["old"]


def test_what_is_being_read_is_not_begun_anew() -> None:
    """A content larger than a quarter grows at the cost of proven ones, and not of itself."""
    contents = [proven("a", 40, NOW - 2), proven("b", 30, NOW - 1), One("large", 45)]
    assert names(choose_victims(contents, limit_bytes=100, now_ns=NOW)) == ["a"]
    assert names(choose_victims([One("large", 101)], limit_bytes=100, now_ns=NOW)) == ["large"]


def test_what_was_not_used_for_a_week_goes_first() -> None:
    """Whatever it was before."""
    contents = [proven("forgotten", 50, NOW - REMEMBERED_NS - 1), One("a", 30), One("b", 30)]
    assert names(choose_victims(contents, limit_bytes=100, now_ns=NOW)) == ["forgotten"]


def test_what_comes_back_takes_only_free_room() -> None:
    """Contents that came back are proven while three quarters have room; the first ones are, others are new."""
    back = [proven(f"back {n}", 20, NOW - 9 + n, is_back=True) for n in range(4)]
    contents = [proven("again", 40, NOW - DAY), *back]
    assert names(choose_victims(contents, limit_bytes=100, now_ns=NOW)) == ["back 1", "back 2"]


def test_small_ones_stay_if_a_large_one_must_go_anyway() -> None:
    """Deleting a table before a session frees nothing that matters, and costs a request."""
    contents = [One("table", 1, NOW - 3), One("session", 50, NOW - 2), One("other", 50, NOW - 1)]
    assert names(choose_victims(contents, limit_bytes=100, now_ns=NOW)) == ["session"]


def test_many_uses_in_a_period_count_once() -> None:
    """Two hours from its first use a content has been used again; a clock that jumps back counts as well."""
    first = History(NOW)
    assert first.after_use(NOW + PERIOD_NS - 1) is first
    assert first.after_use(NOW + PERIOD_NS) == History(NOW + PERIOD_NS, 2)
    assert first.after_use(NOW - 1) == History(NOW - 1, 2)
    assert History(NOW, 2, is_back=True).after_use(NOW + DAY) == History(NOW + DAY, 3)


def test_what_returns_is_known() -> None:
    """For a week. In the same period it is as if it had not been evicted."""
    evicted = History(NOW)
    assert evicted.after_return(NOW + SECOND, used_ns=NOW) is evicted
    assert evicted.after_return(NOW + DAY, used_ns=NOW) == History(NOW + DAY, 2, is_back=True)
    late = NOW + REMEMBERED_NS + 1
    assert evicted.after_return(late, used_ns=NOW) == History(late)
