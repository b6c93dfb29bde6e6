"""Whether files have room: by the cache's size, by what its disk has free, and by what eviction can free."""

from pathlib import Path

import pytest

from tests.config.examples import plain
from vbnfs.access.room import IMPORTING, Need, Room, need_of_blocks
from vbnfs.access.tree_files import Place

MIB = 1 << 20


def room(tmp_path: Path, *, limit: int, usage: int = 0, free: int = 1000, reserve: int = 0) -> Room:
    """In MiB."""
    where = Place(plain(cache_dir=str(tmp_path)), (), "--cache-size {} lets it take more")
    return Room(where, limit * MIB, usage * MIB, free * MIB, reserve * MIB)


def need(whole: int, *, missing: int, shared: int = 0) -> Need:
    """In MiB; besides that, nothing."""
    return Need(whole * MIB, missing * MIB, shared * MIB)


@pytest.mark.parametrize(
    ("there", "wanted", "reason"),
    [
        ({"limit": 100}, need(100, missing=100), None),
        ({"limit": 99}, need(100, missing=100), "100.0 MiB of files are to be taken, but the cache in"),
        ({"limit": 99}, need(100, missing=0), None),  # all of it is there already
        ({"limit": 100, "free": 99}, need(100, missing=100), "100.0 MiB are to be copied, but the disk of"),
        ({"limit": 100, "free": 0}, need(100, missing=100, shared=100), None),  # the disk has it
        ({"limit": 100, "free": 40, "usage": 60}, need(100, missing=100), None),  # 60 are evicted
        ({"limit": 200, "free": 99, "usage": 60}, need(100, missing=100), "99.0 MiB free: free some"),
        (
            {"limit": 200, "free": 109, "reserve": 10},
            need(100, missing=100),
            "99.0 MiB free besides the reserve",
        ),
        ({"limit": 200, "free": 49, "reserve": 10, "usage": 61}, need(100, missing=100), None),  # all else is evicted
        ({"limit": 200, "free": 49, "reserve": 10, "usage": 61}, need(101, missing=61), "61.0 MiB are to be copied"),
    ],
)
def test_what_has_room(tmp_path: Path, there: dict[str, int], wanted: Need, reason: str | None) -> None:
    """Files of other datasets give way, files that are wanted do not; the reserve is left free."""
    found = room(tmp_path, **there).why_not(wanted, IMPORTING)
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_needs_add_up(tmp_path: Path) -> None:
    """Two that have room one by one may have none together; the remedy is a size that holds both."""
    one = need(60, missing=60)
    assert room(tmp_path, limit=100).why_not(one, IMPORTING) is None
    found = room(tmp_path, limit=100).why_not(one + need_of_blocks(60 * MIB), IMPORTING)
    assert found is not None
    assert "--cache-size 120M lets it take more" in found
