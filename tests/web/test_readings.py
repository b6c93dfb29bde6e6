"""What a view says while tables are being read for it."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress

import pytest

from tests.api.release import UNITS
from tests.fakes.s3_server import FakeS3Server, Reply, Request, always, error, held
from tests.waiting import until
from tests.web.conftest import Visit, visiting
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import DatasetError
from vbnfs.objects import ObjectVersion
from vbnfs.web import page_tables, readings
from vbnfs.web.readings import Readings, StillReadingError, usual_patience

CHANGES = "/changes?old=0.4.0&new=0.5.0&tables=yes"
POLL = {"HX-Request": "true", "HX-Trigger": "reading"}
FILE = DataFile(("project_metadata", "units.csv"), ObjectVersion("units.csv", "v1"), None)


@pytest.fixture
def hasty(server: FakeS3Server) -> Iterator[Visit]:
    """The page of a release, whose views wait for no table."""
    with visiting(server, seconds=0.0) as visit:
        visit.browser.get("/")
        server.forget_requests()
        yield visit
        server.behaviours.clear()


def units_asked(server: FakeS3Server) -> int:
    """How many requests there were for the table of units, of both versions."""
    return sum(request.key.endswith(UNITS) for request in server.requests)


def test_a_view_says_at_once_that_its_tables_are_being_read(hasty: Visit, server: FakeS3Server) -> None:
    """Two tabs have them read once. Other views answer meanwhile. The view comes when they are there, and stays."""
    gate = threading.Event()

    def hold(request: Request, honest: Reply) -> Reply | None:
        return held(gate)(request, honest) if request.key.endswith(UNITS) else None

    server.behaviours.append(hold)
    pages = [hasty.browser.get(CHANGES) for _ in range(2)]
    server.wait_until(lambda server: units_asked(server) == 1)
    for page in pages:
        assert page.status_code == 202
        assert "<h1>Being read: Tables of 0.4.0 and 0.5.0</h1>" in page.text
        assert re.search(r'<progress max="\d+" value="0" aria-label="Tables of', page.text)
    assert hasty.browser.get("/").status_code == hasty.browser.get("/files").status_code == 200

    asked = hasty.browser.get(CHANGES, headers=POLL)
    assert (asked.status_code, asked.headers["HX-Retarget"]) == (200, "#how-far")
    assert asked.text.strip().startswith('<div id="how-far">')
    gate.set()
    until(lambda: hasty.browser.get(CHANGES).status_code == 200)
    assert "snr: 1 rows have another value" in hasty.browser.get(CHANGES).text
    assert units_asked(server) == 2
    arrived = hasty.browser.get(CHANGES, headers=POLL)
    assert "HX-Retarget" not in arrived.headers
    assert '<p id="said" hx-swap-oob="innerHTML">What changed from 0.4.0 to 0.5.0: here now</p>' in arrived.text


def test_sessions_come_when_their_tables_are_there(hasty: Visit) -> None:
    """The page that is asked for again shows them; what is asked by a form waits for them."""
    assert hasty.browser.post("/plan", data={"session": "1044385384"}).status_code == 200
    until(lambda: "2 sessions" in hasty.browser.get("/sessions").text)


def test_what_cannot_be_read_is_said_and_asked_for_again(hasty: Visit, server: FakeS3Server) -> None:
    """A page that waits gets the reason once; a later look has it tried again."""
    server.behaviours.append(always(error(403, "AccessDenied")))
    until(lambda: hasty.browser.get("/sessions").status_code == 503)
    server.behaviours.clear()
    until(lambda: "2 sessions" in hasty.browser.get("/sessions").text)


def test_how_far_it_is() -> None:
    """Bytes count as they come, those of other files do not; errors of the reading come out, a time limit's too."""
    gate, reading = threading.Event(), Readings(lambda size_bytes: 0.0)
    calls = list[str]()

    def read() -> str:
        calls.append("read")
        gate.wait(60)
        raise TimeoutError("its own")

    def look() -> StillReadingError:
        with pytest.raises(StillReadingError) as caught:
            reading.result(("a",), "units.csv", [(FILE, 100)], read)
        return caught.value

    assert (look().now.done_bytes, look().now.size_bytes) == (0, 100)
    reading.note(FILE, 40, 100)
    reading.note(DataFile(("other.csv",), ObjectVersion("other.csv", "v1"), None), 7, 7)
    assert look().now.done_bytes == 40
    gate.set()
    with pytest.raises(TimeoutError, match="its own"):
        reading.result(("a",), "units.csv", [(FILE, 100)], read, is_awaited=True)
    assert calls == ["read"]


class Late(Future[str]):
    """A result that comes at the moment in which the time to wait for it is over."""

    def result(self, timeout: float | None = None) -> str:
        """The result; `timeout`: none, but only once it is there."""
        if timeout is None:
            return super().result()
        super().result()
        raise TimeoutError


def test_what_comes_as_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown, or is being read: it is no failure, and it is kept."""
    monkeypatch.setattr(readings, "Future", Late)
    calls, all_of_them = list[str](), Readings(lambda size_bytes: 0.0)

    def look() -> str | None:
        with suppress(StillReadingError):
            return all_of_them.result(("a",), "units.csv", [(FILE, 100)], lambda: calls.append("read") or "table")
        return None

    until(lambda: look() == "table")
    assert look() == "table"
    assert calls == ["read"]


def test_what_is_forgotten_is_read_again() -> None:
    """As the tables of a version that were let go of; what failed is read again, too."""
    reading, calls = Readings(lambda size_bytes: 60.0), list[str]()

    def read() -> int:
        calls.append("read")
        if len(calls) == 3:
            raise DatasetError("no table")
        return len(calls)

    def found(key: tuple[str, ...]) -> int:
        return reading.result(key, "", [], read)

    assert [found(("a", "b")), found(("a", "b"))] == [1, 1]
    reading.forget("b")
    assert found(("a", "b")) == 1
    reading.forget("a")
    assert found(("a", "b")) == 2
    with pytest.raises(DatasetError):
        found(("c",))
    assert found(("c",)) == 4


def test_small_tables_are_waited_for() -> None:
    """So a page comes at once with what it is to show, as a rule."""
    assert usual_patience(900_000) > usual_patience(132_000_000)


def test_pages_of_more_versions_than_are_kept_all_come(
    hasty: Visit, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page waits for stays while another page waits; a table that is the same in both is fetched once."""
    monkeypatch.setattr(page_tables, "_MOST_VERSIONS", 1)
    came = set[str]()

    def look() -> bool:
        for version in ("0.4.0", "0.5.0"):
            if version not in came and hasty.browser.get(f"/sessions?version={version}").status_code == 200:
                came.add(version)
        return len(came) == 2

    assert not look()
    until(look)
    assert sum(request.key.endswith("/ecephys_sessions.csv") for request in server.requests) == 1
