"""Templates, and what they show values with.

All that a template writes is escaped (Jinja2's autoescape); names of manifests, files and programs come from outside.
Addresses of the page itself are relative: below which prefix a proxy shows it, the page need not know.
"""

import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from vbnfs import __version__
from vbnfs.amounts import files, size
from vbnfs.web.static_files import static_address

_OF_A_SCRIPT: Final = "HX-Request"  # htmx sends it: a part of the page is wanted


class Pages:
    """Renders templates of the folder `templates`."""

    def __init__(self, *, proof: str, dataset: str) -> None:
        self._templates = Environment(
            loader=PackageLoader("vbnfs.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            size=size, files=files, part=part_of, address=address, duration=duration, words=words, rate=rate
        )
        self._templates.filters.update(word=shlex.quote, python=repr, static=static_address)
        self._templates.globals.update(proof=proof, dataset_name=dataset, vbnfs_version=__version__)

    def answer(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page; or, where a script asks, the part of it that the template's block `main` is."""
        values |= {"root": root_of(request.scope["path"]), "this_address": partial(_changed, request)}
        values["is_part"] = request.headers.get(_OF_A_SCRIPT) is not None
        return HTMLResponse(self._templates.get_template(template).render(values), status)

    def part(self, request: Request, template: str, **values: Any) -> HTMLResponse:
        """A template that is a part of a page, for a script that puts it there."""
        values |= {"root": root_of(request.scope["path"])}
        return HTMLResponse(self._templates.get_template(template).render(values))


def root_of(path: str) -> str:
    """The way from an address to the page's first: `../` for `/sessions/1`, `./` for `/sessions`."""
    return "../" * (path.count("/") - 1) or "./"


def part_of(part: int | None, whole: int | None) -> str:
    """How much of a whole is there, in words and whole percents: all of it is 100 %, and less never is."""
    if part is None or not whole:
        return "-"
    return f"{100 if part >= whole else min(99, 100 * part // whole)} %"


def _changed(request: Request, path: str | None = None, **changes: Any) -> str:
    """The address of a page, its query changed: what is None goes from it. `path`: another page beside it."""
    last = request.scope["path"].rpartition("/")[2] if path is None else path
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changes]
    query = urlencode([*kept, *((name, value) for name, value in changes.items() if value is not None)])
    return quote(last, safe="/:@") + (f"?{query}" if query else "")


def duration(seconds: float | None) -> str:
    """About how long: 8 s, 3 min, 2.5 h."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rate(bytes_a_second: float | None) -> str:
    """Bytes a second, as sizes are shown; nothing is known of it: '-'."""
    return "-" if bytes_a_second is None else size(round(bytes_a_second))


def words(name: str) -> str:
    """A column's name as a heading: `experience_level` as Experience level."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def address(path: str, **query: Any) -> str:
    """A relative address of a path and a query. What is None stands not in it."""
    given: Mapping[str, Any] = {name: value for name, value in query.items() if value is not None}
    return quote(path, safe="/:@") + (f"?{urlencode(given, doseq=True)}" if given else "")
