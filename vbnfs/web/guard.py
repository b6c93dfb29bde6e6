"""Who may ask, and what a browser may do with the answers.

A page at a loopback port can be asked by every user of the machine, and by every web page that its user's browser has
open. So a request counts if

- a program of the page's user, or root's, asks (`neighbours.py`, before anything here), unless any user may;
- its field `Host` names this machine, on any port (an SSH tunnel has another one), or a host that `--allow` names: a
  name of a foreign domain that leads to 127.0.0.1 is refused (DNS rebinding);
- it has the cookie that an address with the token has set: the token is printed to the user alone;
- for what changes something: it is a POST of this page itself, which only the page's own scripts can send
  (`Sec-Fetch-Site`, a field with a value that the pages have). Cookies know no ports;
- for what changes nothing: another site asks for it as a page to go to alone, not as a part of its own. Views that
  fetch much ask first then (`views.is_own`).

Answers forbid the browser scripts, styles, pictures and connections of any other origin, and to be shown in a frame.

Sources: RFC 6265bis (cookies), W3C Content Security Policy 3, W3C Fetch Metadata, OWASP's sheet on CSRF.
"""

import hashlib
import hmac
import html
import secrets
from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vbnfs.web.views import is_own

TOKEN: Final = "token"  # of an address's query
PROOF: Final = "X-Vbnfs-Proof"  # the field of what changes something
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE: Final = frozenset({"GET", "HEAD"})
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        *("base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"),
    )
)
_FIELDS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Keys:
    """The secrets of a process that serves: each is as good as 256 random bits, but for a token that is given."""

    def __init__(self, token: str | None = None) -> None:
        self._secret = secrets.token_bytes(32)
        self.token: Final = token or self._of("token")
        self.cookie: Final = self._of("cookie")
        self.proof: Final = self._of("proof")
        # Pages of one host on several ports have their cookies in common: each has a name of its own.
        self.cookie_name: Final = f"vbnfs-{self._of('name')[:8]}"

    def _of(self, what: str) -> str:
        return hmac.new(self._secret, what.encode(), hashlib.sha256).hexdigest()


class Guard:
    """An ASGI application that passes on to another one what may ask."""

    def __init__(self, app: ASGIApp, keys: Keys, *, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._keys = keys
        self._hosts = _LOOPBACK | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI 3 has it. Only HTTP is spoken."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields = MutableHeaders(scope=message)
                for name, value in _FIELDS.items():
                    fields[name] = value
                fields.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        """What is answered instead of the page; None: it may be had."""
        if _host_of(request.headers.get("host", "")) not in self._hosts:
            return _refused(
                403, "This page answers to localhost and 127.0.0.1; 'vbnfs web --allow HOST' adds a name."
            )
        if (token := request.query_params.get(TOKEN)) is not None and request.method in _SAFE:
            return self._begun(request, token)
        if not _is_same(request.cookies.get(self._keys.cookie_name, ""), self._keys.cookie):
            return _refused(401, "Open the address that 'vbnfs web' has printed: it has the token that lets you in.")
        return (
            None
            if self._may_be_done(request)
            else _refused(403, "Only this page itself may ask for that: load it anew.")
        )

    def _may_be_done(self, request: Request) -> bool:
        """Whether what is asked may be asked from where it is asked (W3C Fetch Metadata)."""
        fields = request.headers
        if request.method in _SAFE:  # a link of another page may lead here, which shows no part of it
            is_link = fields.get("sec-fetch-mode") == "navigate" and fields.get("sec-fetch-dest") == "document"
            return is_own(request) or is_link
        return request.method == "POST" and is_own(request) and _is_same(fields.get(PROOF, ""), self._keys.proof)

    def _begun(self, request: Request, token: str) -> Response:
        """The way from an address with the token to the page: the address in the browser has it no more."""
        if not _is_same(token, self._keys.token):
            return _refused(
                401, "This token is of an earlier 'vbnfs web': open the address that it has printed last."
            )
        rest = urlencode([pair for pair in parse_qsl(request.url.query) if pair[0] != TOKEN])
        name = request.url.path.rpartition("/")[2]  # relative: a proxy may show all of it below a prefix
        # With './' first, no name is taken for an address of another host: "https:elsewhere.example" would be one.
        answer = RedirectResponse(f"./{quote(name)}{'?' if rest else ''}{rest}", status_code=303)
        # Without a path it is of the folder of this address, as the browser knows it. Not Secure: there is no TLS.
        answer.set_cookie(self._keys.cookie_name, self._keys.cookie, httponly=True, samesite="lax", path=None)
        return answer


def _host_of(field: str) -> str:
    """`localhost` of `localhost:8080`, `[::1]` of `[::1]:8080` (RFC 9110, 7.2)."""
    name, colon, port = field.rpartition(":")
    return (name if colon and port.isdecimal() else field).lower()


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _refused(status: int, text: str) -> Response:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><title>vbnfs</title><p>{html.escape(text)}</p></html>\n', status_code=status
    )
