"""How long a fetch is, and the room that it needs."""

import pytest

from vbnfs.objects import Content, ObjectVersion
from vbnfs.reading.fetches import Backlogs, longest_fetch, room_for
from vbnfs.reading.planner import LONG_GET_BLOCKS, SHORT_GET_BLOCKS


def content(name: str) -> Content:
    return Content(name, 1 << 30, ObjectVersion(name, None))


def test_contents_share_the_connections_and_each_its_own() -> None:
    """A content alone has all of them; of two each has half, until the other one's backlog is empty."""
    backlogs, bulk, short = Backlogs(), content("bulk"), content("short")
    backlogs.lengthen(bulk, 160)
    assert backlogs.share(bulk, gets=8, longest=LONG_GET_BLOCKS) == 20
    backlogs.lengthen(short, 16)
    assert len(backlogs) == 2
    assert (
        backlogs.share(bulk, gets=8, longest=LONG_GET_BLOCKS),
        backlogs.share(short, gets=8, longest=LONG_GET_BLOCKS),
    ) == (40, 4)
    backlogs.shorten(short, 16)
    backlogs.shorten(bulk, 80)
    assert len(backlogs) == 1
    assert backlogs.share(bulk, gets=8, longest=LONG_GET_BLOCKS) == 10


def test_a_window_makes_fetches_longer_and_ends_with_its_backlog() -> None:
    """Half an even share of the window, where most of it has come; nothing is remembered of a content without one."""
    backlogs, bulk = Backlogs(), content("bulk")
    backlogs.set_window(bulk, 256)
    backlogs.lengthen(bulk, 8)
    assert backlogs.share(bulk, gets=4, longest=LONG_GET_BLOCKS) == SHORT_GET_BLOCKS
    backlogs.set_window(bulk, 256)
    assert backlogs.share(bulk, gets=4, longest=LONG_GET_BLOCKS) == 32
    backlogs.shorten(bulk, 8)
    backlogs.lengthen(bulk, 8)
    assert backlogs.share(bulk, gets=4, longest=LONG_GET_BLOCKS) == SHORT_GET_BLOCKS


@pytest.mark.parametrize(("lacking", "room"), [(0, 0), (1, 2), (24, 25), (64, 25)])
def test_a_fetch_needs_room_for_what_is_in_transit(lacking: int, room: int) -> None:
    """However many blocks are to come: those in transit, and the one that is being put together."""
    assert room_for(lacking, 24) == room


@pytest.mark.parametrize(
    ("room_blocks", "longest"), [(640, LONG_GET_BLOCKS), (200, LONG_GET_BLOCKS), (199, 23), (40, 4)]
)
def test_a_fetch_is_so_long_that_one_on_each_connection_has_room(room_blocks: int, longest: int) -> None:
    """Where all of them together have no room for what may be in transit, fetches are shorter than that."""
    assert longest_fetch(room_blocks, gets=8, transit_blocks=24, longest=LONG_GET_BLOCKS) == longest
