"""The page's addresses. What each shows is made by a module of its own; here requests become its arguments."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vbnfs.access.running_fetches import running_fetches
from vbnfs.errors import VbnfsError
from vbnfs.host.mountinfo import is_ours, list_mounts
from vbnfs.web.house import House
from vbnfs.web.machine_page import remedies
from vbnfs.web.picked import picked_of
from vbnfs.web.rendering import Pages
from vbnfs.web.sessions_page import asked_of, find
from vbnfs.web.static_files import static_files
from vbnfs.web.versions_page import version_rows

_LEAST_COMPRESSED_BYTES: Final = 1000
_MOST_FORM_BYTES: Final = 1 << 20
_MOST_FIELDS: Final = 20_000

View = Callable[[Request], Response]


class Page:
    """The views of a house."""

    def __init__(self, house: House, pages: Pages) -> None:
        self._house = house
        self._pages = pages

    @property
    def routes(self) -> list[BaseRoute]:
        """All addresses."""
        return [
            Route("/", _in_a_thread(self.versions)),
            Route("/sessions", _in_a_thread(self.sessions)),
            Route("/changes", _in_a_thread(self.changes)),
            Route("/machine", _in_a_thread(self.machine)),
            Route("/plan", _in_a_thread(self.plan), methods=["POST"]),
            Route("/jobs", _in_a_thread(self.jobs)),
            Route("/jobs", _in_a_thread(self.begin), methods=["POST"]),
            Route("/jobs/{number:int}/end", _in_a_thread(self.end), methods=["POST"]),
            Route("/static/{name:path}", _in_a_thread(_static)),
        ]

    def versions(self, request: Request) -> Response:
        """The dataset: its versions side by side."""
        versions = self._house.versions
        return self._pages.answer(
            request,
            "versions.html",
            versions=version_rows(versions, self._house.here()),
            problems=versions.problems,
            mountpoint=self._house.mountpoint(),
            config=self._house.config,
        )

    def sessions(self, request: Request) -> Response:
        """Sessions, by what an address asks for."""
        asked = asked_of(request.query_params.multi_items())
        name, table = self._house.table(asked.version, "sessions")
        return self._pages.answer(
            request,
            "sessions.html",
            asked=asked,
            found=find(table, asked, name=name),
            all_versions=[str(one) for one in self._house.versions.release.versions][::-1],
        )

    def changes(self, request: Request) -> Response:
        """What a version has otherwise than another one; its tables are read only if that is asked for."""
        given = request.query_params
        is_read = given.get("tables") == "yes"
        difference = self._house.dataset.diff(given.get("old"), given.get("new"), tables=is_read)
        return self._pages.answer(request, "changes.html", report=difference.as_json(), is_read=is_read)

    def machine(self, request: Request) -> Response:
        """Mounts, their readers and rates, the cache, pins."""
        mounts = self._house.looks.at(entry for entry in list_mounts() if is_ours(entry))
        return self._pages.answer(
            request,
            "machine.html",
            mounts=mounts,
            remedies=remedies(mounts),
            fetches=running_fetches(),
            cache=self._house.cache(),
            pins=self._house.pins(),
        )

    def plan(self, request: Request) -> Response:
        """What fetching the picked sessions would do; nothing is begun."""
        picked = picked_of(_form(request))
        places = self._house.places(picked, asked_of(request.query_params.multi_items()))
        plan = self._house.plan(picked, places)
        return self._pages.part(request, "plan.html", plan=plan, picked=picked, places=places)

    def begin(self, request: Request) -> Response:
        """Begin to fetch, or pin, what a plan was of."""
        picked = picked_of(_form(request))
        self._house.fetch(picked, _form(request).get("place", ()))
        return self.jobs(request)

    def jobs(self, request: Request) -> Response:
        """What is under way, and what has ended."""
        return self._pages.part(request, "jobs.html", jobs=self._house.jobs.all())

    def end(self, request: Request) -> Response:
        """Have a job end."""
        self._house.jobs.end(request.path_params["number"])
        return self.jobs(request)

    async def failed(self, request: Request, error: Exception) -> Response:
        """What is shown where a view cannot give its page: why, and what to do."""
        if isinstance(error, HTTPException):
            return self._pages.answer(request, "failed.html", error.status_code, message=error.detail, remedy="")
        assert isinstance(error, VbnfsError)
        return self._pages.answer(request, "failed.html", 503, message=str(error), remedy=error.remedy)


def make_app(house: House, pages: Pages) -> Starlette:
    """The page as an ASGI application, which asks no one who they are: put a `Guard` before it."""
    page = Page(house, pages)
    return Starlette(
        routes=page.routes,
        middleware=[Middleware(GZipMiddleware, minimum_size=_LEAST_COMPRESSED_BYTES)],
        exception_handlers={VbnfsError: page.failed, HTTPException: page.failed},
    )


def _in_a_thread(view: View) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        request.state.form = await _body(request) if request.method == "POST" else b""
        return await run_sync(view, request)

    return answer


async def _body(request: Request) -> bytes:
    """The form that a request has, as it came. Raises an `HTTPException` for one that is too long."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > _MOST_FORM_BYTES:
            raise HTTPException(413, "That is more than this page sends.")
    return bytes(found)


def _form(request: Request) -> Mapping[str, Sequence[str]]:
    try:
        return parse_qs(request.state.form.decode("utf-8"), max_num_fields=_MOST_FIELDS, keep_blank_values=True)
    except ValueError as error:
        raise HTTPException(400, "No form of this page.") from error


def _static(request: Request) -> Response:
    """A script, a style or a picture, which a browser may keep."""
    found = static_files().get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "There is no such file.")
    return Response(
        found.data, media_type=found.kind, headers={"Cache-Control": "private, max-age=604800, immutable"}
    )
