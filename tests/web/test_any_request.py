"""Whatever is asked of the page, it answers: nothing of a request is a defect of a view."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.release import LFP, SESSION, UNITS
from tests.fakes.s3_server import FakeS3Server
from tests.web.conftest import Visit, visiting

_Pair = tuple[str, str]
_NAMES: Final = (
    *("version", "folder", "words", "page", "session", "query", "sort", "f.genotype", "f.experience_level", "f.x"),
    *("old", "new", "tables", "depth", "object", "look", "unit", "start", "seconds", "place", "pin", "lfp", "all"),
    *("condition", "u.quality", "u.x"),
)
_SOUND: Final = (
    *("0.4.0", "0.5.0", "latest", "yes", "no", "areas", "unit", "waveform", "running", "units", "1044385384", "7"),
    *(f"manifests/v0.5.0/{UNITS}", "experience_level == 'Novel'", "-mouse_id", "project_metadata"),
)
_ODD: Final = ("-1", "9" * 5000, "1e999", "nan", "../../etc/passwd", "a/" * 2000, "(" * 500, "\x00", "\x1b[201~", "٣")
_VALUES: Final = st.sampled_from(_SOUND) | st.sampled_from(_ODD) | st.text(max_size=20)
_PAIRS: Final = st.lists(st.tuples(st.sampled_from(_NAMES), _VALUES), max_size=5)
_VERSIONS: Final = st.sampled_from(["v0.5.0", "0.4.0"]) | _VALUES
_PATHS: Final = st.sampled_from([SESSION, LFP, UNITS]) | _VALUES


@pytest.fixture(scope="module")
def shown(server: FakeS3Server) -> Iterator[Visit]:
    """The page, for all examples."""
    with visiting(server) as visit:
        yield visit


def addresses(visit: Visit) -> list[tuple[str, str]]:
    """The methods and patterns of all addresses of the page."""
    guard: Any = visit.browser.app
    return [(method, route.path) for route in guard._app.routes for method in sorted(route.methods)]


def filled(pattern: str, version: str, path: str) -> str:
    """An address of a pattern."""
    for name in ("{path:path}", "{name:path}", "{number}"):
        pattern = pattern.replace(name, quote(path))
    return pattern.replace("{version}", quote(version, safe=""))


@given(st.data(), _VERSIONS, _PATHS, _PAIRS, _PAIRS)
def test_no_request_is_a_defect(
    shown: Visit, data: st.DataObject, version: str, path: str, query: list[_Pair], form: list[_Pair]
) -> None:
    """With any parameters and any form, an answer is a page, or says why there is none."""
    method, pattern = data.draw(st.sampled_from(addresses(shown)))
    content = urlencode(form).encode() if method == "POST" else None
    answer = shown.browser.request(method, filled(pattern, version, path), params=query, content=content)
    assert answer.status_code in {200, 202, 400, 404, 405, 413, 503}
