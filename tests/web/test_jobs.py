"""What the page has begun."""

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import until
from vbnfs.access.filling import Progress
from vbnfs.errors import CacheError
from vbnfs.host.places import folder_at
from vbnfs.web.jobs import Jobs, Report, Work
from vbnfs.web.orders import Kind, Order, parse_order
from vbnfs.web.unfinished import Unfinished

ORDER = Order(Kind.FETCH, ("manifests/v0.5.0/a",), "0.5.0", None)


def test_a_defect_ends_its_job() -> None:
    """Whatever goes wrong, a job ends, and says what it was."""

    def work(report: Report) -> str:
        raise KeyError("units")

    jobs = jobs_of(work)
    jobs.start(ORDER)
    until(lambda: not jobs.all()[0].is_running)
    [job] = jobs.all()
    assert (job.is_failed, job.outcome) == (True, "a defect of vbnfs (KeyError: 'units'); please report it")


def jobs_of(*works: Work) -> Jobs:
    """Jobs, of which each does the next work; after those, the last one."""
    left = list(works)
    return Jobs(lambda order: left.pop(0) if len(left) > 1 else left[0])


def ended(jobs: Jobs) -> int:
    """A job that has ended, by its number."""
    number = jobs.start(ORDER)
    until(lambda: not next(job for job in jobs.all() if job.number == number).is_running)
    return number


def test_what_a_long_job_came_to_is_seen() -> None:
    """Of the jobs that have ended the last ones to end are kept, whenever they began."""
    gate, begun = threading.Event(), threading.Event()

    def wait(report: Report) -> str:
        begun.set()
        gate.wait(60)
        return "after all others"

    jobs = jobs_of(wait, lambda report: "soon")
    long = jobs.start(ORDER)
    until(begun.is_set)
    first, *_ = [ended(jobs) for _ in range(25)]
    gate.set()
    until(lambda: not any(job.is_running for job in jobs.all()))
    outcomes = {job.number: job.outcome for job in jobs.all()}
    assert outcomes[long] == "after all others"
    assert first not in outcomes
    assert len(outcomes) == 20


def test_ending_a_job_that_is_not_ends_no_later_one() -> None:
    """A number that has no job yet, or none that runs, is passed over."""

    def work(report: Report) -> str:
        report(Progress(1, 1, 0, 0))
        return "done"

    jobs = jobs_of(work)
    first = ended(jobs)
    for number in (first, first + 1, 10**17):
        jobs.end(number)
    ended(jobs)
    assert [job.outcome for job in jobs.all()] == ["done", "done"]


def test_since_when_what_is_shown_is_old() -> None:
    """What a page shows is old once a job has ended, or brought a file; of many files some seconds apart."""
    steps, here = threading.Semaphore(0), threading.Semaphore(0)

    def work(report: Report) -> str:
        for number in range(1, 4):
            report(Progress(files=3, done_files=number))
            here.release()
            steps.acquire()
        return "done"

    jobs, began = jobs_of(work), time.monotonic()
    assert not jobs.have_changed_since(began)
    jobs.start(ORDER)
    here.acquire()
    assert jobs.have_changed_since(began)
    first = time.monotonic()
    steps.release()
    here.acquire()
    assert not jobs.have_changed_since(first)  # at once after the first one
    for _ in range(2):
        steps.release()
    until(lambda: not jobs.all()[0].is_running)
    assert jobs.have_changed_since(first)
    assert not jobs.have_changed_since(time.monotonic())


def test_what_has_failed_is_asked_for_again() -> None:
    """What failed, or was ended, is begun anew in its place; what has come to its end is not."""

    def fail(report: Report) -> str:
        raise CacheError("the disk is full")

    jobs = jobs_of(fail, lambda report: "done")
    number = ended(jobs)
    assert [(job.may_be_again, job.outcome) for job in jobs.all()] == [(True, "the disk is full")]
    jobs.again(number)
    until(lambda: not jobs.all()[0].is_running)
    assert [(job.may_be_again, job.outcome) for job in jobs.all()] == [(False, "done")]
    for passed in (number, number + 1, 10**17):
        jobs.again(passed)
    assert len(jobs.all()) == 1


def waiting(report: Report) -> str:
    """Work that ends when it is to."""
    while True:
        report(Progress(files=1))


@pytest.mark.parametrize(
    "order", [ORDER, Order(Kind.FETCH, ("a", "b"), "0.4.0", "p", "yes"), Order(Kind.EVICT, ("a",))]
)
def test_a_job_that_ended_with_its_page(tmp_path: Path, order: Order) -> None:
    """The next page knows of it, and begins it if it is asked to; the one after that knows of it no more."""
    folder = folder_at(tmp_path / "cache") / "jobs"
    first = Jobs(lambda order: waiting, Unfinished(folder))
    first.start(order)
    until(lambda: first.all()[0].files == 1)
    other = Jobs(lambda order: waiting, Unfinished(folder))
    other.recall()
    assert other.all() == []
    first.close(60)
    done = list[Order]()
    second = Jobs(lambda order: lambda report: done.append(order) or "done", Unfinished(folder))
    second.recall()
    [job] = second.all()
    assert (job.title, job.outcome) == (order.title, "the page ended before this did; what had come stays")
    second.again(job.number)
    until(lambda: done == [order])
    until(lambda: os.listdir(tmp_path / "cache" / "jobs") == [])
    third = Jobs(lambda order: waiting, Unfinished(folder))
    assert third.is_recalling  # until then a page asks again
    third.recall()
    assert (third.all(), third.is_recalling) == ([], False)


def test_a_job_that_is_ended_by_its_user(tmp_path: Path) -> None:
    """It can be asked for again, and no later page knows of it."""
    jobs = Jobs(lambda order: waiting, Unfinished(folder_at(tmp_path / "cache") / "jobs"))
    jobs.end(jobs.start(ORDER))
    until(lambda: not jobs.all()[0].is_running)
    assert (jobs.all()[0].may_be_again, jobs.all()[0].outcome) == (True, "ended by you; what had come stays")
    until(lambda: os.listdir(tmp_path / "cache" / "jobs") == [])


@given(
    st.one_of(st.binary(max_size=200), st.sampled_from([b"[]", b"{}", b'{"kind":"x","places":["a"],"version":null}']))
)
def test_what_is_no_order(data: bytes) -> None:
    """Whatever stands in the place of an order, it is one or is refused."""
    try:
        assert parse_order(parse_order(data).as_json()) == parse_order(data)
    except (ValueError, RecursionError):
        return
