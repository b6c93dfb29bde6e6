"""What the page has begun."""

from tests.waiting import until
from vbnfs.web.jobs import Jobs, Report


def test_a_defect_ends_its_job() -> None:
    """Whatever goes wrong, a job ends, and says what it was."""

    def work(report: Report) -> str:
        raise KeyError("units")

    jobs = Jobs()
    jobs.start("Fetch 1 file", work)
    until(lambda: not jobs.all()[0].is_running)
    [job] = jobs.all()
    assert (job.is_failed, job.outcome) == (True, "a defect of vbnfs (KeyError: 'units'); please report it")
