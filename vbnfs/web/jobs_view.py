"""What is under way, as a part of each page; and that what the page shows may be otherwise now."""

import math
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from vbnfs.web.jobs import Jobs
from vbnfs.web.rendering import Pages

STATE_CHANGED: Final = {
    "HX-Trigger": "state-changed"
}  # an event for the page (htmx's reference); page.js hears of it


def show_jobs(jobs: Jobs, pages: Pages, request: Request) -> Response:
    """The jobs. What asks says since when its page is as it is (`since`); what begins something need not."""
    is_recalling, now = jobs.is_recalling, jobs.all()  # in this order: then all of them are there
    is_changed = request.method == "POST" or jobs.have_changed_since(_seconds(request.query_params.get("since")))
    return pages.part(
        request, "jobs.html", STATE_CHANGED if is_changed else None, jobs=now, is_recalling=is_recalling
    )


def _seconds(text: str | None) -> float:
    try:
        return math.inf if text is None else float(text)
    except ValueError:
        return math.inf
