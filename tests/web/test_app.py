"""What the views answer, without a browser."""

import hashlib
import html
import re
import tomllib
from importlib.resources import files
from urllib.parse import quote

import pytest

from tests.fakes.dataset import serve
from tests.waiting import until
from tests.web.conftest import Visit, visiting
from vbnfs.cache.verdict import Verdict
from vbnfs.cache.verdicts import Verdicts
from vbnfs.objects import Content
from vbnfs.web.house import House


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


def test_a_job_that_is_not_there(visit: Visit) -> None:
    """One that has gone just now ends without more; what is no number is a page that is not there."""
    assert visit.browser.post("/jobs/7/end").status_code == 200
    for number in ("9" * 5000, "-1", "x"):
        assert visit.browser.post(f"/jobs/{number}/end").status_code == 404


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


def test_each_column_sorts(visit: Visit) -> None:
    """Each heading leads to its order, and then to the other way round; what the cache has sorts, too."""
    headings = re.findall(r'href="(sessions\?sort=[^"]*)"', visit.browser.get("/sessions").text)
    assert {"sessions?sort=cached_bytes", "sessions?sort=size_bytes", "sessions?sort=whole_bytes"} < {*headings}
    assert len(headings) == len(set(headings)) > 5
    for heading in headings:
        text = visit.browser.get(f"/{heading}").text
        assert text.count('aria-sort="ascending"') == 1
        other = visit.browser.get(f"/{heading.replace('=', '=-')}").text
        assert other.count('aria-sort="descending"') == 1
    rows = re.findall(r'name="session" value="(\d+)"', visit.browser.get("/sessions?sort=-ecephys_session_id").text)
    assert rows == ["1044594870", "1044385384"]


def test_a_session_s_state(visit: Visit) -> None:
    """Its row says what is whole, and whether that was held against the hashes; and what a pin holds."""
    tags = r'<span class="tag[^"]*">([a-z ]+)</span>'
    session = visit.house.dataset.session(1044385384)
    assert re.findall(tags, visit.browser.get("/sessions").text) == []
    session.file.prefetch(progress=False)
    assert re.findall(tags, visit.browser.get("/sessions").text)[:1] == ["some files whole"]
    session.prefetch(lfp="yes", progress=False)
    assert re.findall(tags, visit.browser.get("/sessions").text) == ["whole", "verified"]
    visit.house.dataset.pin("figure", [session.file.path], progress=False)
    assert re.findall(tags, visit.browser.get("/sessions").text) == ["whole", "verified", "pinned"]
    visit.house.dataset.unpin("figure")


def test_what_was_found_verified_is_not_looked_at_again(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its files stay as they are no verdict is read for it; where one goes, or is condemned, that shows."""
    versions, session = visit.house.versions, visit.house.dataset.session(1044385384)
    session.prefetch(lfp="yes", progress=False)
    manifest, asked, really = versions.manifest(None), list[str](), Verdicts.good

    def noted(verdicts: Verdicts, content: Content) -> Verdict | None:
        asked.append(content.content_id)
        return really(verdicts, content)

    def found() -> set[int]:
        asked.clear()
        return visit.house.verified.of(versions, manifest, [1044385384, 1044594870])

    monkeypatch.setattr(Verdicts, "good", noted)
    until(lambda: found() == {1044385384} and asked == [])  # times of files have steps
    files = [file for file in manifest.files if "/".join(file.path) == session.file.path]
    [content] = versions.contents(files).values()
    assert content is not None
    versions.dataset.cache.whole_path(content).touch()
    assert (found(), asked) == ({1044385384}, [content.content_id])
    versions.dataset.verdicts.keep(content, Verdict("0" * 128, "", "2026-01-01T00:00:00Z", 1))
    assert found() == set()


def test_a_query_that_is_wrong(visit: Visit) -> None:
    """The page says what is wrong with it, and keeps what was typed."""
    answer = visit.browser.get("/sessions", params={"query": "experience_levell == 'Novel'"})
    assert answer.status_code == 200
    assert "near it: experience_level" in answer.text
    assert 'value="experience_levell == &#39;Novel&#39;"' in answer.text


def test_a_defect_has_a_page(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no view foresees is shown as a page that says what to do, with the status 500."""
    monkeypatch.setattr(House, "here", None)
    visit.browser._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
    answer = visit.browser.get("/")
    assert answer.status_code == 500
    assert "This is a defect of vbnfs (TypeError): please report it." in answer.text
    assert answer.headers["content-security-policy"]


def test_what_cannot_be_seen_is_not_copied(visit: Visit) -> None:
    """A link can have any character in its query: what could end a paste in a shell is no part of what is copied."""
    query = "experience_level == 'Novel\x1b[201~\n\u202erm'"
    text = visit.browser.get("/sessions", params={"query": query}).text
    copied = re.findall('data-copy="([^"]+)"', text)
    assert len(copied) == 2
    assert "".join(copied).isprintable()
    assert "Novel [201~  rm" in copied[0]


def test_names_from_outside_are_text() -> None:
    """Markup in names of files and in cells of tables, or in what is asked for, is text of the page."""
    evil = """<img src=x onerror=alert(1)>'"`{{7777*7777}}"""
    quoted = evil.replace('"', '""')
    sessions = f'ecephys_session_id,experience_level,file_id\n1044385384,"{quoted}",-999\n1044594870,Novel,-999\n'
    old = {"project_metadata/ecephys_sessions.csv": sessions.encode()}
    name = f"project_metadata/{evil}{'x' * 200}.csv"
    new = {**old, name: b"a\n1\n"}
    asked = {"words": evil, "query": evil, "sort": evil, "f.experience_level": evil, "version": "0.2.0"}
    with serve({"0.1.0": old, "0.2.0": new}) as server, visiting(server) as visit:
        pages = [
            visit.browser.get("/sessions"),
            visit.browser.get("/sessions", params=asked),
            visit.browser.get("/changes", params={"old": "0.1.0", "new": "0.2.0", "tables": "yes"}),
            visit.browser.get("/sessions", params={"version": evil}),
            visit.browser.get("/files", params={"folder": "project_metadata"}),
            visit.browser.get(f"/file/v0.2.0/{quote(name)}"),
            visit.browser.post("/verify", data={"place": f"manifests/v0.2.0/{name}"}),
            visit.browser.get("/changes", params={"old": evil, "new": evil}),
            visit.browser.get(f"/{evil}"),
        ]
    for page in pages:
        assert "<img" not in page.text
        assert str(7777 * 7777) not in page.text
    assert ["&lt;img" in page.text for page in pages[:7]] == [True] * 7


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
    """Files and sums without reading a table; its rows and columns where that is asked for. Names lead to files."""
    page = visit.browser.get("/changes", params={"old": "0.4.0", "new": "0.5.0"})
    assert page.status_code == 200
    assert '<a href="./file/v0.5.0/project_metadata/units.csv">project_metadata/units.csv</a>' in page.text
    assert "have another value" not in page.text
    read = visit.browser.get("/changes", params={"old": "0.4.0", "new": "0.5.0", "tables": "yes"})
    assert "snr: 1 rows have another value" in read.text
    for page in (visit.browser.get("/").text, read.text):  # any two can be chosen
        form = page.split('action="changes"')[1].split("</form>")[0]
        assert re.findall(r'value="([\d.]+)" selected', form) == ["0.4.0", "0.5.0"]
    back = visit.browser.get("/changes", params={"old": "0.5.0", "new": "0.4.0"})
    assert "What changed from 0.5.0 to 0.4.0" in back.text
    unknown = visit.browser.get("/changes", params={"old": "0.4.0", "new": "9"})
    assert unknown.status_code == 503
    assert "there are: 0.4.0, 0.5.0" in unknown.text


@pytest.mark.parametrize(
    "path", ["/", "/sessions?query=mouse_id%20%3E%200", "/files", "/changes?new=0.5.0", "/machine", "/nothing"]
)
def test_a_script_gets_the_part_that_it_puts_there(visit: Visit, path: str) -> None:
    """Where htmx asks, the answer is what stands between the page's head and foot, and no page of its own."""
    whole, part = visit.browser.get(path), visit.browser.get(path, headers={"HX-Request": "true"})
    assert whole.status_code == part.status_code
    assert "<html" in whole.text
    assert "<html" not in part.text
    heading = re.search("<h1>.*?</h1>", whole.text)
    assert heading is not None
    assert heading[0] in part.text


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name,sex\nx,F\ny,M\n", "has no column of session ids"),
        ("ecephys_session_id,sex\n1,F\n,M\n", "has no column of session ids"),
        ("ecephys_session_id,sex\nx,F\ny,M\n", "has no column of session ids"),
        ("ecephys_session_id,sex,mouse_id\n1,F,3\n1,M,4\n", "has no column of session ids"),
        ("ecephys_session_id,sex\n", "<strong>0 sessions</strong>"),
        ('ecephys_session_id,"a, b",n\n1,"x, y",\n2,z,inf\n', "<td>x, y</td>"),
    ],
)
def test_tables_of_sessions_that_are_odd(table: str, words: str) -> None:
    """Without ids, or with the same one twice, without rows, with commas, with nothing and with infinite numbers."""
    files = {"project_metadata/ecephys_sessions.csv": table.encode()}
    with serve({"0.1.0": files}) as server, visiting(server) as visit:
        pages = [visit.browser.get(path) for path in ("/sessions", "/sessions?sort=-n", "/sessions?words=z")]
    assert words in pages[0].text
    assert {page.status_code for page in pages} <= {200, 503}


def test_the_command_asks_the_version_that_is_shown(visit: Visit) -> None:
    """What is copied finds the same sessions: in another version there may be others."""
    asked = {"query": "mouse_id > 0"}
    for version, end in (({}, ""), ({"version": "0.4.0"}, " --dataset-version 0.4.0")):
        text = visit.browser.get("/sessions", params=asked | version).text
        [command] = re.findall('data-copy="(vbnfs sessions [^"]+)"', text)
        assert html.unescape(command) == f"vbnfs sessions --query 'mouse_id > 0'{end}"
