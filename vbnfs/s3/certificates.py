"""What it means that a server's certificate is refused: one message for each cause (pure).

The codes are OpenSSL's (X509_STORE_CTX_get_error(3ssl)), which Python and libcurl both give.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from vbnfs.errors import ExpiredError, UntrustedServerError, WrongClockError, WrongNameError

_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_NAMES: Final = frozenset({0, 1, 62, 64})  # libcurl compares names itself; of a host, of an address
_CAUSES: Final = {
    2: "the authority that issued its certificate is not known, or the server leaves out a certificate in between",
    18: "its certificate is self-signed, and not among those that are trusted",
    19: "its certificate comes from an authority that is not trusted, as in a network that inspects TLS",
    **dict.fromkeys((20, 21), "its certificate comes from an authority that is not known, or is not sent with it"),
}
_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Dates:
    """When a server's certificate is valid, and what time it is by the server's Date. In seconds since 1970."""

    not_before: float
    not_after: float
    server_time: float


def refused(server: str, code: int, reason: str) -> UntrustedServerError:
    """The certificate of `server`, by OpenSSL's code; `reason` is the library's message."""
    if code == _EXPIRED:
        return ExpiredError(f"{server}: its certificate, or one above it, has expired")
    if code == _NOT_YET_VALID:
        return ExpiredError(f"{server}: its certificate, or one above it, is not valid yet")
    if code in _WRONG_NAMES:
        return WrongNameError(f"{server}: its certificate is for another host ({reason.rstrip('.')})")
    cause = _CAUSES.get(code, "its certificate is refused")
    return UntrustedServerError(f"{server}: {cause} ({reason})")


def with_dates(error: ExpiredError, dates: Dates | None, *, now: float, installed: float) -> ExpiredError:
    """The same error with what is known of the time: `now` by this machine's clock, `installed` when vbnfs was.

    `WrongClockError` where the clock is to blame: by the server's time the certificate is valid, or a day lies
    between the two, or it was later when vbnfs was installed.
    """
    clock = f"this machine's clock says {_text(now)}"
    if dates is not None and _is_clock_wrong(dates, now):
        return WrongClockError(f"{error}: {clock}, the server's {_text(dates.server_time)}")
    if now < installed - _DAY_SECONDS:
        return WrongClockError(f"{error}: {clock}, which is before vbnfs was installed ({_text(installed)})")
    if dates is None:
        return ExpiredError(f"{error}: {clock}")
    validity = f"the server's is valid from {_text(dates.not_before)} to {_text(dates.not_after)}"
    return ExpiredError(f"{error}: {validity}; {clock}, and so does the server's")


def _is_clock_wrong(dates: Dates, now: float) -> bool:
    def is_valid(at: float) -> bool:
        return dates.not_before <= at <= dates.not_after

    return (is_valid(dates.server_time) and not is_valid(now)) or abs(dates.server_time - now) > _DAY_SECONDS


def _text(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
