"""The simulation of many clients: nothing is lost, nothing comes twice, nothing is faster than it can be."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import simpy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.scale import traces as recorded
from benchmarks.scale.measure import Together, compare
from benchmarks.scale.scenarios import HEADER, Place, rows, table
from benchmarks.scale.sharing import Shared
from benchmarks.scale.simulation import MBIT, Origin, Proxy, Site, chosen, simulate
from benchmarks.scale.traces import CLOCK_SECONDS, Request, Trace, slices_of, unique_bytes, unique_slices

SIZES = {"a.nwb": 5_000_001, "b.nwb": 3_000_000}
SLICE = 1 << 20
FEW = settings(max_examples=25)
amounts = st.floats(0.001, 1e6)
jobs = st.lists(st.tuples(st.floats(0, 10), amounts), min_size=1, max_size=30)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    file = draw(st.sampled_from(sorted(SIZES)))
    start = draw(st.integers(0, SIZES[file] - 1))
    length = draw(st.integers(1, min(3 * SLICE, SIZES[file] - start)))
    return Request(file, start, length, draw(st.floats(0, 3)), draw(st.floats(0, 2)))


@st.composite
def all_traces(draw: st.DrawFn) -> Trace:
    found = tuple(sorted(draw(st.lists(requests(), min_size=1, max_size=12)), key=lambda one: one.at))
    seconds = max(one.at + one.seconds for one in found) + draw(st.floats(0, 1))
    return Trace(found, seconds, draw(st.floats(0, 3)), draw(st.floats(0, 1)), SIZES)


@FEW
@given(jobs=jobs, capacity=st.floats(0.1, 1e4), most=st.floats(0.1, 1e4))
def test_what_is_shared_is_neither_lost_nor_faster_than_it_can_be(
    jobs: list[tuple[float, float]], capacity: float, most: float
) -> None:
    """Each job is served what it asked for; alone it takes no less, and all together take no less than they can."""
    env = simpy.Environment()
    shared = Shared(env, capacity, most=most)
    took: list[tuple[float, float]] = []

    def job(begins: float, amount: float) -> simpy.events.ProcessGenerator:
        yield env.timeout(begins)
        yield shared.serve(amount)
        took.append((env.now - begins, amount))

    for begins, amount in jobs:
        env.process(job(begins, amount))
    env.run()
    total = math.fsum(amount for _, amount in jobs)
    assert len(took) == len(jobs)
    assert shared.served == pytest.approx(total)
    assert all(seconds >= amount / min(capacity, most) * (1 - 1e-6) for seconds, amount in took)
    assert env.now >= min(begins for begins, _ in jobs) + total / capacity * (1 - 1e-6)


@FEW
@given(each=st.lists(amounts, min_size=1, max_size=30), capacity=st.floats(0.1, 1e4))
def test_a_link_is_never_idle_while_something_waits(each: list[float], capacity: float) -> None:
    """What is asked for at once is done when the link could have brought all of it, and the shortest first."""
    env = simpy.Environment()
    shared = Shared(env, capacity)
    done = [shared.serve(amount) for amount in each]
    ends: dict[int, float] = {}
    for number, event in enumerate(done):
        event.callbacks.append(lambda _event, number=number: ends.setdefault(number, env.now))
    env.run()
    assert env.now == pytest.approx(math.fsum(each) / capacity)
    in_order = sorted(range(len(each)), key=each.__getitem__)
    assert [ends[number] for number in in_order] == sorted(ends.values())


@FEW
@given(found=st.lists(all_traces(), min_size=1, max_size=3), clients=st.integers(1, 6), data=st.data())
def test_each_slice_is_fetched_once(found: list[Trace], clients: int, data: st.DataObject) -> None:
    """In whatever order clients ask, S3 is asked once for each slice that is touched, and they get what they want."""
    proxies = data.draw(st.integers(1, 3))
    spread = data.draw(st.floats(0, 5))
    processors = data.draw(st.sampled_from([None, 1, 2]))
    site = Site(clients, proxies=proxies, spread_seconds=spread, processors=processors)
    outcome = simulate(site, found)
    took = [found[number % len(found)] for number in range(clients)]
    asked = [one for trace in took for one in trace.requests]
    assert outcome.s3.requests == len(unique_slices(asked, site.slice_bytes))
    assert outcome.s3.bytes == unique_bytes(asked, site.slice_bytes, SIZES)
    assert outcome.proxies.requests == len(asked)
    assert outcome.proxies.bytes == sum(one.length for one in asked)
    assert len(outcome.seconds) == clients
    assert max(outcome.seconds) + spread >= outcome.s3.bytes / site.s3_rate + site.first_byte_seconds - 1e-6
    work = sum(trace.processor_seconds + trace.proxy_seconds for trace in took)
    assert processors is None or max(outcome.seconds) + spread >= work / processors * (1 - 1e-6)
    assert sum(outcome.s3.seconds.values()) == outcome.s3.requests


@FEW
@given(trace=all_traces(), clients=st.integers(1, 5))
def test_without_a_site_cache_s3_is_asked_for_everything(trace: Trace, clients: int) -> None:
    """All requests of all clients go there; those of clients whose own caches are warm do not."""
    outcome = simulate(Site(clients, proxies=0), [trace])
    assert (outcome.s3.requests, outcome.s3.bytes) == (clients * len(trace.requests), clients * trace.bytes)
    warm = simulate(Site(clients, proxies=0, warm_part=1.0), [trace])
    assert (warm.s3.requests, warm.seconds) == (0, [])


@FEW
@given(trace=all_traces())
def test_a_request_follows_what_it_waited_for(trace: Trace) -> None:
    """It waits for answers that were there when it was sent, and works for no time below zero."""
    for number, step in enumerate(trace.steps):
        assert all(before < number for before in step.after)
        assert step.work_seconds >= 0
        ends = [trace.requests[before].at + trace.requests[before].seconds for before in step.after]
        assert all(end <= step.request.at + CLOCK_SECONDS for end in ends)
    assert trace.work_seconds <= trace.seconds * (1 + 1e-9)


@FEW
@given(alone=all_traces(), among=all_traces())
def test_work_among_others_is_that_of_a_client_alone(alone: Trace, among: Trace) -> None:
    """What a client asked for among others is simulated with what it works when it is alone."""
    assume(among.work_seconds > CLOCK_SECONDS)
    found = alone.among_others(among.requests, among.seconds)
    assert found.requests == among.requests
    assert found.work_seconds == pytest.approx(alone.work_seconds)


@FEW
@given(trace=all_traces(), times=st.floats(0.5, 4))
def test_work_that_takes_longer_among_others(trace: Trace, times: float) -> None:
    """All of a client's work takes so many times as long, and it asks for the same in the same order."""
    found = trace.slowed(times)
    assert found.work_seconds == pytest.approx(times * trace.work_seconds)
    assert found.processor_seconds == pytest.approx(times * trace.processor_seconds)
    assert [(step.request, step.after) for step in found.steps] == [
        (step.request, step.after) for step in trace.steps
    ]


@FEW
@given(trace=all_traces())
def test_a_trace_is_kept(trace: Trace) -> None:
    """As JSON, to the microsecond of times and the millisecond of work."""
    again = Trace.from_json(trace.as_json())
    assert [replace(one, at=0, seconds=0) for one in again.requests] == [
        replace(one, at=0, seconds=0) for one in trace.requests
    ]
    assert [one.at for one in again.requests] == pytest.approx([one.at for one in trace.requests], abs=1e-6)
    assert again.as_json() == trace.as_json()


def test_traces_take_the_place_of_others(tmp_path: Path) -> None:
    """What is recorded anew is all that is there."""
    one, two, three = (Trace((Request("a.nwb", n, 1, 0, 0),), 1.0, 1.0, 0.0, SIZES) for n in range(3))
    recorded.store([one, two], tmp_path)
    recorded.store([three], tmp_path)
    assert recorded.load(tmp_path) == [three]


def test_what_has_to_hold_of_a_course() -> None:
    """The line's time for the unique bytes and the processors' for all clients; a simulation of it beside that."""
    [first, *_] = found = list(recorded.load())
    outcome = simulate(Site(8, processors=2), found)
    together = Together(
        clients=8,
        seconds=outcome.seconds,
        steps={},
        proxy_requests=outcome.proxies.requests,
        proxy_bytes=outcome.proxies.bytes,
        s3_requests=outcome.s3.requests,
        s3_bytes=outcome.s3.bytes,
        unique_slices=outcome.s3.requests,
        unique_bytes=125_000_000,
        waits=outcome.waits,
        warm_processor_seconds=1.0,
        alone_processor_seconds=0.5,
    )
    processors = os.cpu_count() or 1
    assert together.allowed_seconds == pytest.approx(10 + 8 / processors)
    assert together.allowed_alone_seconds == pytest.approx(10 + 4 / processors)
    names = [gate.name for gate in together.gates]
    late = replace(together, seconds=[1.0, 1.0, 2.5], s3_bytes=2 * together.unique_bytes)
    assert [gate.holds for gate in late.gates] == [False, True, False], names
    agreed = compare(together, found).gates
    assert all(gate.holds for gate in agreed if not gate.name.endswith("off by"))
    assert not all(gate.holds for gate in compare(together, [first]).gates)


def test_waiters_look_every_half_second() -> None:
    """A request for a slice that another one has fetched goes on at its next look, not when the slice is there."""
    env = simpy.Environment()
    site = Site(2, s3_rate=8 * MBIT, first_byte_seconds=0.0, slice_bytes=SLICE)  # a slice takes 1.05 s
    proxy = Proxy(env, site, Origin(env, site), SIZES)
    ends: list[float] = []

    def ask(begins: float) -> simpy.events.ProcessGenerator:
        yield env.timeout(begins)
        yield from proxy.get(Request("a.nwb", 0, 1000, 0, 0))
        ends.append(env.now)

    env.process(ask(0.0))
    env.process(ask(0.1))
    env.run()
    assert ends == pytest.approx([SLICE / 1e6, 1.1], abs=1e-3)
    assert proxy.waits == [1.0]


def test_a_server_more_takes_files_and_moves_no_others() -> None:
    """Rendezvous hashing: a file goes to the new server, or stays where it was."""
    files = [f"session_{number}.nwb" for number in range(200)]
    for count in (1, 2, 3):
        assert all(chosen(file, count + 1) in {count, chosen(file, count)} for file in files)
    assert {chosen(file, 4) for file in files} == {0, 1, 2, 3}


def test_ranges_and_slices() -> None:
    """A range touches the slices from its first byte's to its last byte's."""
    assert list(slices_of(Request("a.nwb", SLICE - 1, 2, 0, 0), SLICE)) == [0, 1]
    assert list(slices_of(Request("a.nwb", SLICE, SLICE, 0, 0), SLICE)) == [1]


def test_a_course_by_the_recorded_traces() -> None:
    """A site cache asks S3 for each slice once, however many clients there are; without one S3 is asked for all."""
    found = recorded.load()
    one = simulate(Site(50, spread_seconds=10.0), found)
    requests = [each for trace in found for each in trace.requests]
    assert one.s3.requests == len(unique_slices(requests, SLICE))
    none = simulate(Site(50, proxies=0, spread_seconds=10.0), found)
    assert none.s3.requests == sum(len(found[number % len(found)].requests) for number in range(50))
    assert none.s3.bytes > 20 * one.s3.bytes


def test_the_courses_as_a_table() -> None:
    """A row for each number of site caches and each part of warm caches, with what S3 is asked."""
    [none, some, *_] = found = list(rows(recorded.load(), [Place(8, 100, 1000)]))
    assert len({len(row.cells()) for row in found} | {len(HEADER)}) == 1
    assert (none.proxies, none.warm_part, some.warm_part) == (0, 0.0, 0.9)
    assert len(some.outcome.seconds) == 1
    lines = table(HEADER, [row.cells() for row in found]).splitlines()
    assert len(lines) == 2 + len(found)
    assert lines[2].startswith("| 8 | none | 0% |")
