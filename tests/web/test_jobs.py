"""What the page has begun."""

import threading
import time

from tests.waiting import until
from vbnfs.access.filling import Progress
from vbnfs.web.jobs import Jobs, Report, Work


def test_a_defect_ends_its_job() -> None:
    """Whatever goes wrong, a job ends, and says what it was."""

    def work(report: Report) -> str:
        raise KeyError("units")

    jobs = Jobs()
    jobs.start("Fetch 1 file", work)
    until(lambda: not jobs.all()[0].is_running)
    [job] = jobs.all()
    assert (job.is_failed, job.outcome) == (True, "a defect of vbnfs (KeyError: 'units'); please report it")


def ended(jobs: Jobs, work: Work) -> int:
    """A job that has ended, by its number."""
    number = jobs.start("Fetch 1 file", work)
    until(lambda: not next(job for job in jobs.all() if job.number == number).is_running)
    return number


def test_what_a_long_job_came_to_is_seen() -> None:
    """Of the jobs that have ended the last ones to end are kept, whenever they began."""
    gate, jobs = threading.Event(), Jobs()

    def wait(report: Report) -> str:
        gate.wait(60)
        return "after all others"

    long = jobs.start("Fetch 500 files", wait)
    first, *_ = [ended(jobs, lambda report: "soon") for _ in range(25)]
    gate.set()
    until(lambda: not any(job.is_running for job in jobs.all()))
    outcomes = {job.number: job.outcome for job in jobs.all()}
    assert outcomes[long] == "after all others"
    assert first not in outcomes
    assert len(outcomes) == 20


def test_ending_a_job_that_is_not_ends_no_later_one() -> None:
    """A number that has no job yet, or none that runs, is passed over."""
    jobs = Jobs()

    def work(report: Report) -> str:
        report(Progress(1, 1, 0, 0))
        return "done"

    first = ended(jobs, work)
    for number in (first, first + 1, 10**17):
        jobs.end(number)
    ended(jobs, work)
    assert [job.outcome for job in jobs.all()] == ["done", "done"]


def test_since_when_what_is_shown_is_old() -> None:
    """What a page shows is old once a job has ended, or brought a file; of many files some seconds apart."""
    jobs, steps = Jobs(), threading.Semaphore(0)
    here = threading.Semaphore(0)

    def work(report: Report) -> str:
        for number in range(1, 4):
            report(Progress(files=3, done_files=number))
            here.release()
            steps.acquire()
        return "done"

    began = time.monotonic()
    assert not jobs.have_changed_since(began)
    jobs.start("Fetch 3 files", work)
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
