"""The page's addresses. What each shows is made by a module of its own; here requests become its arguments."""

import re
from collections.abc import Hashable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vbnfs.access.running_fetches import running_fetches
from vbnfs.errors import VbnfsError, with_remedy
from vbnfs.host.mountinfo import is_ours, list_mounts, roots_mounts
from vbnfs.web.area_views import AreaViews
from vbnfs.web.changes_page import changed_files
from vbnfs.web.file_views import FileViews
from vbnfs.web.house import House
from vbnfs.web.jobs_view import show_jobs
from vbnfs.web.machine_page import remedies
from vbnfs.web.picked import Picked, picked_of
from vbnfs.web.readings import StillReadingError
from vbnfs.web.rendering import Pages, is_of_reading
from vbnfs.web.sessions_page import asked_of, find
from vbnfs.web.static_files import static_files
from vbnfs.web.versions_page import VersionRow, version_rows
from vbnfs.web.views import form_of, in_a_thread, is_own, number_of

_LEAST_COMPRESSED_BYTES: Final = 1000
_JOB: Final = re.compile(r"[0-9]{1,18}")
_HOW_FAR: Final = {"HX-Retarget": "#how-far", "HX-Reswap": "outerHTML"}  # where a part of reading.html goes


class Page:
    """The views of a house."""

    def __init__(self, house: House, pages: Pages) -> None:
        self._house = house
        self._pages = pages

    @property
    def routes(self) -> list[BaseRoute]:
        """All addresses but those of files and areas: see `FileViews`, `AreaViews`."""
        return [
            Route("/", in_a_thread(self.versions)),
            Route("/sessions", in_a_thread(self.sessions)),
            Route("/notes", in_a_thread(self.notes)),
            Route("/changes", in_a_thread(self.changes)),
            Route("/machine", in_a_thread(self.machine)),
            Route("/doctor", in_a_thread(self.findings)),
            Route("/doctor", in_a_thread(self.examine), methods=["POST"]),
            Route("/plan", in_a_thread(self.plan), methods=["POST"]),
            Route("/jobs", in_a_thread(self.jobs)),
            Route("/jobs", in_a_thread(self.begin), methods=["POST"]),
            Route("/jobs/{number}/end", in_a_thread(self.end), methods=["POST"]),
            Route("/jobs/{number}/again", in_a_thread(self.again), methods=["POST"]),
            Route("/static/{name:path}", in_a_thread(_static)),
        ]

    def versions(self, request: Request) -> Response:
        """The dataset: its versions side by side."""
        return self._pages.answer(
            request,
            "versions.html",
            versions=self._versions(),
            problems=self._house.versions.problems,
            mountpoint=self._house.mountpoint(),
            config=self._house.config,
            lines=self._house.lines,
        )

    def _versions(self) -> Sequence[VersionRow]:
        return version_rows(self._house.versions, self._house.kinds, self._house.here())

    def sessions(self, request: Request) -> Response:
        """Sessions, by what an address asks for."""
        asked = asked_of(request.query_params.multi_items())
        name, table = self._house.table(asked.version, "sessions")
        found = find(table, asked, name=name)
        whole_ids = [row.session_id for row in found.rows if row.whole_bytes]
        manifest = self._house.versions.manifest(asked.version)
        return self._pages.answer(
            request,
            "sessions.html",
            asked=asked,
            found=found,
            lines=self._house.lines,
            verified=self._house.verified.of(self._house.versions, manifest, whole_ids),
            all_versions=self._all_versions(),
        )

    def notes(self, request: Request) -> Response:
        """The bucket's release notes; nothing where there are none."""
        return self._pages.part(request, "notes.html", notes=self._house.notes.text())

    def changes(self, request: Request) -> Response:
        """What a version has otherwise than another one; its tables are read only if that is asked for here."""
        given = request.query_params
        is_read = given.get("tables") == "yes" and is_own(request)
        report = self._house.tables.changes(given.get("old"), given.get("new"), with_tables=is_read)
        page = number_of(given.get("page"))
        found = changed_files(report, change=given.get("change", ""), words=given.get("words", ""), page=page)
        names = self._all_versions()
        return self._pages.answer(
            request, "changes.html", report=report, found=found, is_read=is_read, all_versions=names
        )

    def _all_versions(self) -> Sequence[str]:
        """Their names, the newest first."""
        return [str(one) for one in self._house.versions.release.versions][::-1]

    def machine(self, request: Request) -> Response:
        """Mounts, their readers and rates, the cache, pins; without the dataset what there is besides, and why."""
        by_version, pins, problem = self._of_the_dataset()
        mounts = self._house.looks.at(entry for entry in list_mounts() if is_ours(entry))
        return self._pages.answer(
            request,
            "machine.html",
            mounts=mounts,
            others=[str(entry.mountpoint) for entry in roots_mounts()],
            remedies=remedies(mounts),
            fetches=running_fetches(),
            cache=self._house.cache(),
            by_version=by_version,
            pins=pins,
            problem=problem,
            examined=self._house.examining.now,
        )

    def _of_the_dataset(self) -> tuple[Sequence[VersionRow], Sequence[Mapping[Hashable, Any]], str | None]:
        """The versions, the pins, and why there are none."""
        try:
            return self._versions(), self._house.pins(), None
        except VbnfsError as error:
            return (), (), with_remedy(error)

    def examine(self, request: Request) -> Response:
        """Begin to examine this machine."""
        self._house.examining.begin()
        return self.findings(request)

    def findings(self, request: Request) -> Response:
        """What an examination has found, or that it is under way."""
        return self._pages.part(request, "findings.html", examined=self._house.examining.now)

    def plan(self, request: Request) -> Response:
        """What fetching picked sessions, a folder or a file would do; nothing is begun."""
        form = form_of(request)
        picked = picked_of(form)
        places = self._places(picked, form, request)
        plan = self._house.plan(picked, places)
        return self._pages.part(request, "plan.html", plan=plan, picked=picked, places=places)

    def _places(self, picked: Picked, form: Mapping[str, Sequence[str]], request: Request) -> Sequence[str]:
        if "place" in form:
            return form["place"]
        if "folder" in form:
            return self._house.places_in(picked, form["folder"][0], form.get("words", [""])[0])
        return self._house.places(picked, asked_of(request.query_params.multi_items()))

    def begin(self, request: Request) -> Response:
        """Begin to fetch, or pin, what a plan was of."""
        picked = picked_of(form_of(request))
        self._house.fetch(picked, form_of(request).get("place", ()))
        return self.jobs(request)

    def jobs(self, request: Request) -> Response:
        """What is under way, and what has ended."""
        return show_jobs(self._house.jobs, self._pages, request)

    def end(self, request: Request) -> Response:
        """Have a job end."""
        self._house.jobs.end(_job_of(request))
        return self.jobs(request)

    def again(self, request: Request) -> Response:
        """Begin a job anew that has failed, or was ended."""
        self._house.jobs.again(_job_of(request))
        return self.jobs(request)

    async def reading(self, request: Request, error: Exception) -> Response:
        """What is shown while a view's tables are being read: how far that is. It asks again each second."""
        assert isinstance(error, StillReadingError)
        if is_of_reading(request):
            return self._pages.part(request, "how_far.html", _HOW_FAR, now=error.now)
        return self._pages.answer(request, "reading.html", HTTPStatus.ACCEPTED, now=error.now)

    async def failed(self, request: Request, error: Exception) -> Response:
        """What is shown where a view cannot give its page: why, and what to do."""
        if isinstance(error, HTTPException):
            return self._pages.answer(request, "failed.html", error.status_code, message=error.detail, remedy="")
        assert isinstance(error, VbnfsError)
        return self._pages.answer(request, "failed.html", 503, message=str(error), remedy=error.remedy)

    async def defect(self, request: Request, error: Exception) -> Response:
        """What is shown where a view has a defect. The server logs it."""
        message = f"This is a defect of vbnfs ({type(error).__name__}): please report it."
        remedy = "What 'vbnfs web' has written where it runs says more."
        return self._pages.answer(request, "failed.html", 500, message=message, remedy=remedy)


def make_app(house: House, pages: Pages) -> Starlette:
    """The page as an ASGI application, which asks no one who they are: put a `Guard` before it."""
    page = Page(house, pages)
    return Starlette(
        routes=[*page.routes, *FileViews(house, pages).routes, *AreaViews(house, pages).routes],
        middleware=[Middleware(GZipMiddleware, minimum_size=_LEAST_COMPRESSED_BYTES, compresslevel=1)],
        exception_handlers={
            VbnfsError: page.failed,
            HTTPException: page.failed,
            StillReadingError: page.reading,
            Exception: page.defect,
        },
    )


def _job_of(request: Request) -> int:
    """The number of the job that an address is of."""
    number = request.path_params["number"]
    if _JOB.fullmatch(number) is None:
        raise HTTPException(404, "There is no such job.")
    return int(number)


def _static(request: Request) -> Response:
    """A script, a style or a picture, which a browser may keep."""
    found = static_files().get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "There is no such file.")
    return Response(
        found.data, media_type=found.kind, headers={"Cache-Control": "private, max-age=604800, immutable"}
    )
