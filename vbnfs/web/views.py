"""How a request reaches a view: a function that runs in a thread, and that has the form of a POST."""

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final
from urllib.parse import parse_qs

from anyio import fail_after
from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_MOST_FORM_BYTES: Final = 1 << 20
_MOST_FIELDS: Final = 20_000
_OWN_PAGES: Final = frozenset({"same-origin", "none"})
_FORM_SECONDS: Final = 10.0  # for all of it to come

View = Callable[[Request], Response]


def in_a_thread(view: View) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint of Starlette's that has a view answer in a thread."""

    async def answer(request: Request) -> Response:
        request.state.began = time.monotonic()
        request.state.form = await _body(request) if request.method == "POST" else b""
        # A server that ends does not wait for what waits for S3.
        return await run_sync(view, request, abandon_on_cancel=True)

    return answer


def form_of(request: Request) -> Mapping[str, Sequence[str]]:
    """The form that a request has. Raises an `HTTPException` for what is none."""
    try:
        return parse_qs(request.state.form.decode("utf-8"), max_num_fields=_MOST_FIELDS, keep_blank_values=True)
    except ValueError as error:
        raise HTTPException(400, "No form of this page.") from error


def began(request: Request) -> float:
    """When it began to be answered, by `time.monotonic`: what an answer shows is as new as that."""
    found: float = getattr(request.state, "began", math.inf)
    return found


def is_own(request: Request) -> bool:
    """Whether this page asks, or its user by a bookmark or the address itself: no other page, and no link of one.

    By what browsers say of each request (W3C Fetch Metadata). What says nothing is no browser of today, or asks a
    proxy that is neither at the loopback nor speaks TLS.
    """
    return request.headers.get("sec-fetch-site", "none") in _OWN_PAGES


def number_of(text: str | None) -> int:
    """A number in an address, as that of a page; 1 for what is none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else 1


async def _body(request: Request) -> bytes:
    """The form that a request has, as it came. Raises an `HTTPException` for one that is too long, or too slow."""
    found = bytearray()
    try:
        with fail_after(_FORM_SECONDS):
            async with aclosing(request.stream()) as pieces:
                async for piece in pieces:
                    found += piece
                    if len(found) > _MOST_FORM_BYTES:
                        raise HTTPException(413, "That is more than this page sends.")
    except TimeoutError as error:
        raise HTTPException(408, "The form has not come.") from error
    return bytes(found)
