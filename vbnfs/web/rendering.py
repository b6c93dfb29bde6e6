"""Templates, and what they show values with.

All that a template writes is escaped (Jinja2's autoescape); names of manifests, files and programs come from outside.
Addresses of the page itself are relative: below which prefix a proxy shows it, the page need not know.
"""

import json
import shlex
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from vbnfs import __version__
from vbnfs.amounts import files, size
from vbnfs.dataset.names import MAX_PATH_PARTS
from vbnfs.web.static_files import static_address
from vbnfs.web.views import began

_OF_A_SCRIPT: Final = "HX-Request"  # htmx sends it: a part of the page is wanted

_HEADINGS: Final = {"structure_acronyms": "Areas (structure acronyms)"}  # where a column's name is no word of people
_READING: Final = "reading"  # the id of what asks again, in reading.html


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
            size=size,
            files=files,
            part=part_of,
            address=address,
            duration=duration,
            words=words,
            rate=rate,
            clock=clock,
        )
        self._templates.filters.update(word=shlex.quote, python=repr, static=static_address, json=json.dumps)
        self._templates.globals.update(proof=proof, dataset_name=dataset, vbnfs_version=__version__)

    def answer(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page; or, where a script asks, the part of it that the template's block `main` is."""
        values |= {"depth": depth_of(request.scope["path"]), "this_address": partial(_changed, request)}
        values["began"] = began(request)
        values["root"] = root_at(values["depth"])
        values["is_part"], values["was_read"] = request.headers.get(_OF_A_SCRIPT) is not None, is_of_reading(request)
        return _html(self._templates.get_template(template).render(values), status)

    def part(
        self, request: Request, template: str, fields: Mapping[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        """A template that is a part of a page, for a script that puts it there: into one of the query's `depth`.

        `fields` of the answer say where, if it is elsewhere than where the script would put it (htmx's reference).
        """
        text = request.query_params.get("depth", "")
        depth = min(int(text), MAX_PATH_PARTS + 2) if text.isascii() and text.isdigit() and len(text) < 4 else 0
        values |= {"depth": depth, "root": root_at(depth), "began": began(request)}
        answer = _html(self._templates.get_template(template).render(values))
        answer.headers.update(fields or {})
        return answer


def is_of_reading(request: Request) -> bool:
    """Whether a page asks that has said that something is being read: the id of what asks is htmx's `HX-Trigger`."""
    return request.headers.get("HX-Trigger") == _READING


def _html(text: str, status: int = 200) -> HTMLResponse:
    """What is written as UTF-8; names of objects in files may have bytes that are none."""
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)


def depth_of(path: str) -> int:
    """How many folders an address is below the page's first: 0 for `/sessions`, 1 for `/sessions/1`."""
    return path.count("/") - 1


def root_at(depth: int) -> str:
    """The way from an address to the page's first: `../` from `/sessions/1`, `./` from `/sessions`."""
    return "../" * depth or "./"


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


def clock(seconds: float) -> str:
    """The time of day here, of seconds since 1970: 14:05."""
    return time.strftime("%H:%M", time.localtime(seconds))


def words(name: str) -> str:
    """A column's name as a heading: `experience_level` as Experience level."""
    text = _HEADINGS.get(name) or name.replace("_", " ")
    return text[:1].upper() + text[1:]


def address(path: str, **query: Any) -> str:
    """A relative address of a path and a query. What is None stands not in it."""
    given: Mapping[str, Any] = {name: value for name, value in query.items() if value is not None}
    return quote(path, safe="/:@") + (f"?{urlencode(given, doseq=True, errors='surrogateescape')}" if given else "")
