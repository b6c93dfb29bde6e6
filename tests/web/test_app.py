"""What the views answer, without a browser."""

import hashlib
import re
import tomllib
from importlib.resources import files

import pytest

from tests.waiting import until
from tests.web.conftest import Visit


def test_versions_stand_side_by_side(visit: Visit) -> None:
    """The newest version is first; files, sizes and what is cached stand beside each."""
    answer = visit.browser.get("/")
    assert answer.status_code == 200
    assert answer.text.index(">0.5.0</a>") < answer.text.index(">0.4.0</a>")


def test_a_page_that_is_not_there(visit: Visit) -> None:
    """It is a page as others are, with the status 404."""
    answer = visit.browser.get("/nothing")
    assert answer.status_code == 404
    assert "<h1>" in answer.text


def test_static_files(visit: Visit) -> None:
    """Scripts and styles come with their types; no name leads out of their folder."""
    assert visit.browser.get("/static/page.css").headers["content-type"].startswith("text/css")
    assert visit.browser.get("/static/vendored/htmx.min.js").status_code == 200
    for name in ("../app.py", "..%2fapp.py", "vendored", "vendored%2f..%2fpage.css", "%00", "vendored/htmx.LICENSE"):
        assert visit.browser.get(f"/static/{name}").status_code == 404, name


def test_scripts_of_others_are_those_of_the_list(visit: Visit) -> None:
    """The list of what is of other projects has version, licence and hash of each, and nothing else is there."""
    place = files("vbnfs.web") / "static" / "vendored"
    listed = tomllib.loads((place / "vendored.toml").read_text(encoding="utf-8"))
    there = {one.name for one in place.iterdir()} - {"vendored.toml"}
    assert there == {name for one in listed.values() for name in (*one["files"], one["license_file"])}
    for one in listed.values():
        assert one["version"]
        assert one["license"]
        for name, digest in one["files"].items():
            data = (place / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == digest
            assert f"{one['version']}".encode() in data or one["is_unmarked"]


def test_sessions_are_found_by_values_and_queries(visit: Visit) -> None:
    """Filters stand in the address; what is found, and the query of it, stand in the page."""
    answer = visit.browser.get("/sessions")
    assert answer.status_code == 200
    assert "2 sessions" in answer.text
    found = visit.browser.get("/sessions", params={"query": "experience_level == 'Novel'"})
    assert "1 session<" in found.text
    assert "1044385384" in found.text
    assert "1044594870" not in found.text


def test_a_query_that_is_wrong(visit: Visit) -> None:
    """The page says what is wrong with it, and keeps what was typed."""
    answer = visit.browser.get("/sessions", params={"query": "experience_levell == 'Novel'"})
    assert answer.status_code == 200
    assert "near it: experience_level" in answer.text
    assert 'value="experience_levell == &#39;Novel&#39;"' in answer.text


def test_what_is_picked_is_fetched(visit: Visit) -> None:
    """A plan says how much it is, and begins nothing; its button begins a job, which ends with all files checked."""
    plan = visit.browser.post("/plan", data={"session": "1044385384", "lfp": "yes"})
    assert "2 files" in plan.text
    assert visit.house.jobs.all() == []
    places = re.findall(r'name="place" value="([^"]+)"', plan.text)
    visit.browser.post("/jobs", data={"place": places})
    until(lambda: not visit.house.jobs.all()[0].is_running)
    [job] = visit.house.jobs.all()
    assert (job.is_failed, job.outcome) == (False, "2 files here, and checked")
    assert "2 files here, and checked" in visit.browser.get("/jobs").text
    assert visit.house.dataset.session(1044385384).file.local_path is not None


def test_what_changed_between_two_versions(visit: Visit) -> None:
    """Files and sums without reading a table; its rows and columns where that is asked for."""
    page = visit.browser.get("/changes", params={"old": "0.4.0", "new": "0.5.0"})
    assert page.status_code == 200
    assert "project_metadata/units.csv" in page.text
    assert "have another value" not in page.text
    read = visit.browser.get("/changes", params={"old": "0.4.0", "new": "0.5.0", "tables": "yes"})
    assert "snr: 1 rows have another value" in read.text
    unknown = visit.browser.get("/changes", params={"old": "0.4.0", "new": "9"})
    assert unknown.status_code == 503
    assert "there are: 0.4.0, 0.5.0" in unknown.text


@pytest.mark.parametrize("path", ["/", "/sessions?query=mouse_id%20%3E%200", "/machine", "/nothing"])
def test_a_script_gets_the_part_that_it_puts_there(visit: Visit, path: str) -> None:
    """Where htmx asks, the answer is what stands between the page's head and foot, and no page of its own."""
    whole, part = visit.browser.get(path), visit.browser.get(path, headers={"HX-Request": "true"})
    assert whole.status_code == part.status_code
    assert "<html" in whole.text
    assert "<html" not in part.text
    heading = re.search("<h1>.*?</h1>", whole.text)
    assert heading is not None
    assert heading[0] in part.text
