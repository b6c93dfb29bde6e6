"""Which worker does what, decided without any cluster."""

import pytest

from vbnfs.access.verifying import FAILED, GOOD, INCOMPLETE, MISMATCH, Finding
from vbnfs.dask.plan import (
    ChosenFile,
    Job,
    NodeCache,
    Stock,
    best_cache,
    caches_of,
    differences,
    fetching_jobs,
    lacking_room,
    merged,
    placed_anew,
    verifying_jobs,
)

A, B = "a:/scratch", "b:/scratch"
FILES = [
    ChosenFile("units.csv", "u", 10),
    ChosenFile("1/session.nwb", "s1", 100, 1),
    ChosenFile("1/lfp.nwb", "l1", 500, 1),
    ChosenFile("2/session.nwb", "s2", 200, 2),
]


def test_workers_of_one_folder_have_one_cache() -> None:
    """Workers are put together by host and folder, and hosts that see one folder by that."""
    members = {"w1": A, "w2": A, "w3": B, "w4": "c:/home"}
    assert [cache.workers for cache in caches_of(members, [])] == [{"w1", "w2"}, {"w3"}, {"w4"}]
    [both, other] = caches_of(members, [{A, B}, {B}])
    assert (both.members, both.workers, both.name) == ({A, B}, {"w1", "w2", "w3"}, A)
    assert (str(both), str(other)) == ("/scratch on 2 nodes", "/home on c")


def test_a_cache_outlives_its_first_workers() -> None:
    """A folder of many hosts keeps its members and its name when hosts go away, and when others join."""
    seen = [{A, B}, {B, "c:/scratch"}]
    [one] = caches_of({"w5": "c:/scratch"}, [*seen, {"d:/home"}], [B, A])
    assert (one.members, one.workers, one.name) == ({A, B, "c:/scratch"}, {"w5"}, B)
    assert Job("x", [], member=A, must=True).fits(one, None, is_lost=False)


def test_files_of_a_session_go_together() -> None:
    """With several caches a session is one job, the largest first; with one cache each file is."""
    jobs = fetching_jobs(FILES, {A: Stock(), B: Stock()}, every_node=False)
    assert [(job.name, job.argument, job.missing_bytes, job.member) for job in jobs] == [
        ("session 1", ["1/session.nwb", "1/lfp.nwb"], 600, None),
        ("2/session.nwb", ["2/session.nwb"], 200, None),
        ("units.csv", ["units.csv"], 10, None),
    ]
    assert [len(job.argument) for job in fetching_jobs(FILES, {A: Stock()}, every_node=False)] == [1] * 4


def test_what_is_here_in_part_goes_on_there() -> None:
    """A job goes to the cache that has most of it, and lacks the rest."""
    stocks = {A: Stock({"s1": 30}), B: Stock({"s1": 100, "l1": 499}, {"s1"})}
    [first, *_] = fetching_jobs(FILES, stocks, every_node=False)
    [one] = [job for job in fetching_jobs(FILES, stocks, every_node=False) if job.name == "session 1"]
    assert first.name == "2/session.nwb"
    assert (one.member, one.missing_bytes, one.must) == (B, 1, False)
    assert best_cache([FILES[3]], stocks)[0] is None
    assert best_cache(FILES, {})[0] is None  # its workers were lost before they said what they have


def test_every_node_gets_all() -> None:
    """With `every_node` each file is a job for each cache, which no other does."""
    jobs = fetching_jobs(FILES, {A: Stock(), B: Stock({"u": 10}, {"u"})}, every_node=True)
    assert len(jobs) == len({job.key for job in jobs}) == 8
    assert all(job.must for job in jobs)
    assert {job.member for job in jobs if not job.missing_bytes} == {B}


def test_files_are_verified_where_they_are() -> None:
    """Each cache hashes what it has; what no cache has is one job; without paths only what is whole counts."""
    stocks = {A: Stock({"s1": 100}, {"s1"}), B: Stock({"s1": 3, "u": 10})}
    jobs = verifying_jobs(FILES, stocks, is_asked=True)
    assert [(job.argument, job.member) for job in jobs] == [
        (["1/session.nwb"], A),
        (["units.csv"], B),
        (["1/session.nwb"], B),
        (["1/lfp.nwb", "2/session.nwb"], None),
    ]
    assert [job.member for job in verifying_jobs(FILES, stocks, is_asked=False)] == [A]


def test_jobs_go_to_a_cache_that_joins() -> None:
    """What was in no cache is done where it is in one that joined; what has a place, or is in none still, stays."""
    waiting = [Job("session 1", 1), Job("session 2", 2), Job("session 2 again", 2, member=A)]
    files = {1: FILES[1:3], 2: FILES[3:]}
    placed = placed_anew(waiting, files, {B: Stock({"s2": 200}, {"s2"})})
    assert [job.member for job in placed] == [None, B, A]


@pytest.mark.parametrize(
    ("rooms", "lacking"),
    [((700, 200), None), ((600, 100), (810, 700)), ((600, None), None), ((50, 5000), None)],
)
def test_room(rooms: tuple[int, int | None], lacking: tuple[int, int] | None) -> None:
    """What all caches together lack is said before anything is fetched; a room that is not known refuses nothing."""
    stocks = {A: Stock(room_bytes=rooms[0]), B: Stock(room_bytes=rooms[1])}
    assert lacking_room(fetching_jobs(FILES, stocks, every_node=False), stocks) == lacking


def test_room_of_one_cache() -> None:
    """What has to be in one cache needs its room, whatever the others have."""
    stocks = {A: Stock(room_bytes=800), B: Stock(room_bytes=5000)}
    assert lacking_room(fetching_jobs(FILES, stocks, every_node=True), stocks) == (810, 800)


def test_who_can_do_a_job() -> None:
    """A job is done by its cache; by another one where that is lost, unless it must not; and where there is room."""
    here, there = NodeCache(frozenset({A}), frozenset({"w"}), A), NodeCache(frozenset({B}), frozenset({"v"}), B)
    job = Job("x", [], 10, A)
    assert [job.fits(one, None, is_lost=False) for one in (here, there)] == [True, False]
    assert job.fits(there, 10, is_lost=True)
    assert not job.fits(there, 9, is_lost=True)
    assert not Job("x", [], 10, A, must=True).fits(there, None, is_lost=True)


def test_what_became_of_a_file() -> None:
    """Of what several nodes found the worst counts, with the node; that a node has no copy says nothing of others."""
    found = [
        ("a", Finding("x", GOOD, 3)),
        ("b", Finding("x", INCOMPLETE, 3, "--fetch fetches")),
        ("c", Finding("x", GOOD, 3)),
        ("a", Finding("y", GOOD, 3)),
        ("b", Finding("y", MISMATCH, 3, "another hash")),
        ("", Finding("z", FAILED, None, "its worker was lost")),
    ]
    x, y, z = merged(found, ["x", "y", "z", "unknown"])
    assert (x.outcome, x.detail, x.nodes) == (GOOD, "", ("a", "c"))
    assert (y.outcome, y.detail, y.nodes) == (MISMATCH, "b: another hash", ("b",))
    assert z.detail == "its worker was lost"
    assert x.as_json()["nodes"] == ("a", "c")


def test_settings_that_differ_are_named() -> None:
    """A message names the setting, its values and the hosts; of many hosts the first."""
    settings = [(f"n{number}", {"cache_size": "None" if number else "5", "region": "x"}) for number in range(6)]
    said = "workers have different settings of cache_size: 5 (n0), None (n1, n2, n3 and 2 more)"
    assert differences(settings) == {("cache_size", "5", "None"): said}
    [two_of_a_host] = differences(
        [("n0", {"verify": "off"}), ("n0", {"verify": "on"}), ("n0", {"verify": "on"})]
    ).values()
    assert two_of_a_host == "workers have different settings of verify: off (n0), on (n0)"
