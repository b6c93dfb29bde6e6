"""What the views answer, without a browser."""

import hashlib
import tomllib
from importlib.resources import files

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
