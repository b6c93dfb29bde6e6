"""The page's addresses. Each view is a function in a module of its own, which gives values to a template."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vbnfs.errors import VbnfsError
from vbnfs.web.house import House
from vbnfs.web.rendering import Pages
from vbnfs.web.versions_page import version_rows

_SCRIPTS: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_LEAST_COMPRESSED_BYTES: Final = 1000

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

    async def failed(self, request: Request, error: Exception) -> Response:
        """What is shown where a view cannot give its page: why, and what to do."""
        if isinstance(error, HTTPException):
            return self._pages.answer(request, "failed.html", error.status_code, message=error.detail, remedy="")
        assert isinstance(error, VbnfsError)
        return self._pages.answer(request, "failed.html", 503, message=str(error), remedy=error.remedy)


def make_app(house: House, pages: Pages) -> Starlette:
    """The page as an ASGI application, which asks nobody who they are: put a `Guard` before it."""
    page = Page(house, pages)
    return Starlette(
        routes=page.routes,
        middleware=[Middleware(GZipMiddleware, minimum_size=_LEAST_COMPRESSED_BYTES)],
        exception_handlers={VbnfsError: page.failed, HTTPException: page.failed},
    )


def _in_a_thread(view: View) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await run_sync(view, request)

    return answer


def _static(request: Request) -> Response:
    """A script, a style or a picture of the page. Its address has the version, so that a browser may keep it."""
    name = request.path_params["name"]
    place = files("vbnfs.web") / "static"
    known = {f"{folder}{one.name}" for folder in ("", "vendored/") for one in (place / folder).iterdir()}
    kind = _SCRIPTS.get(name.rpartition(".")[2])
    if name not in known or kind is None:
        raise HTTPException(404, "There is no such file.")
    data = place.joinpath(*name.split("/")).read_bytes()
    return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})
