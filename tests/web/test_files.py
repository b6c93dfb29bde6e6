"""Folders, files and what is in them; what is begun from a file's page."""

import re
from pathlib import Path

import pytest

from tests.api.release import LFP, SESSION, UNITS
from tests.fakes.s3_server import FakeS3Server
from tests.waiting import until
from tests.web.conftest import Visit
from vbnfs.access.here import Here
from vbnfs.web.copied import Lines
from vbnfs.web.file_page import FileFacts, recipes
from vbnfs.web.files_page import folder_at
from vbnfs.web.house import House
from vbnfs.web.jobs import Job

PLACE = f"manifests/v0.5.0/{SESSION}"


def page_of(visit: Visit, path: str, *, kind: str = "file", **query: str) -> str:
    """The page of a file of 0.5.0."""
    answer = visit.browser.get(f"/{kind}/v0.5.0/{path}", params=query)
    assert answer.status_code == 200
    return answer.text


def done(visit: Visit, address: str, **form: str) -> Job:
    """The job that a button begins, when it has ended."""
    before = len(visit.house.jobs.all())
    assert visit.browser.post(address, data=form).status_code == 200
    until(lambda: len(visit.house.jobs.all()) > before and not visit.house.jobs.all()[0].is_running)
    return visit.house.jobs.all()[0]


def test_folders_of_a_version(visit: Visit) -> None:
    """Folders come first, each with its files and sizes; a file leads to its page; words choose names."""
    top = visit.browser.get("/files", params={"version": "0.5.0"})
    assert 'href="files?version=0.5.0&amp;folder=project_metadata"' in top.text
    inside = visit.browser.get("/files", params={"version": "0.5.0", "folder": "project_metadata"}).text
    assert 'href="file/v0.5.0/project_metadata/units.csv"' in inside
    few = visit.browser.get("/files", params={"folder": "project_metadata", "words": "unit"}).text
    assert "1 name." in few
    assert "channels.csv" not in few


@pytest.mark.parametrize(
    "address", ["/files?folder=nothing", "/file/v0.5.0/nothing", "/file/v0.5.0/project_metadata"]
)
def test_what_is_not_there(visit: Visit, address: str) -> None:
    """A folder or a file that the version has not is a page with the status 404."""
    answer = visit.browser.get(address)
    assert answer.status_code == 404
    assert "Version 0.5.0 has no" in answer.text


def test_a_folder_is_shown_in_pages(visit: Visit) -> None:
    """A page that there is not is the nearest one; what is cached of a folder is that of all files below it."""
    versions = visit.house.versions
    visit.house.dataset.file(SESSION).prefetch()
    here = visit.house.here()
    folder = folder_at(versions, here, versions.manifest("0.5.0"), "behavior_ecephys_sessions", page=99)
    assert folder is not None
    assert (folder.page, folder.pages, folder.names) == (1, 1, 1)
    [entry] = folder.entries
    assert (entry.files, entry.whole_files) == (2, 1)
    assert 0 < entry.here_bytes < (entry.size_bytes or 0)
    assert folder_at(versions, Here({}, set()), versions.manifest("0.5.0"), SESSION) is None


def test_a_file_says_where_it_comes_from(visit: Visit, server: FakeS3Server) -> None:
    """Its S3 address with the version id, its hash, the versions that have it; nothing is fetched for that."""
    visit.browser.get("/")
    before = server.count("get_range")
    text = page_of(visit, SESSION)
    assert server.count("get_range") == before
    file = visit.house.dataset.version("0.5.0").file(SESSION)
    assert "versionId=" in file.url
    assert file.url.replace("&", "&amp;") in text
    assert str(file.hash) in text
    assert f'href="../../../../file/v0.4.0/{SESSION}"' in text
    assert "not complete" in text
    of_units = page_of(visit, UNITS)
    assert "file/v0.4.0" not in of_units


def test_lines_of_programs_have_the_real_path(visit: Visit) -> None:
    """Without a path Python opens it by vbnfs; when the file is here, all programs have its path in the cache."""
    assert "vbnfs.Dataset().version(&#39;0.5.0&#39;)" in page_of(visit, SESSION)
    assert "MATLAB and R need a path" in page_of(visit, SESSION)
    visit.house.dataset.version("0.5.0").file(SESSION).prefetch()
    path = visit.house.dataset.version("0.5.0").file(SESSION).local_path
    text = page_of(visit, SESSION)
    assert "h5disp(path)" in text
    assert f"h5py.File(&#39;{path}&#39;)" in text
    assert "verified</span> blake2b:" in text


def test_where_a_mount_has_it(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a mount of the user's shows the dataset, its path is what is copied, and what programs open."""
    monkeypatch.setattr(House, "mountpoint", lambda house: Path("/mnt/vbn"))
    text = page_of(visit, SESSION)
    assert f'data-copy="/mnt/vbn/{PLACE}"' in text
    assert f"path = &#39;/mnt/vbn/{PLACE}&#39;" in text
    assert "need a path" not in text
    assert 'data-copy="/mnt/vbn/manifests/v0.5.0"' in visit.browser.get("/").text


def test_names_in_lines_of_programs_are_quoted() -> None:
    """A name with quotes is one text in each language."""
    facts = FileFacts("0.5.0", "a'b.h5", "", "", 0, 0, "", None, "", None, (), (), None)
    code = {one.name: one.code for one in recipes(facts, Path("/mnt/a'b\".h5"), Lines())}
    assert code["MATLAB"] is not None
    assert "'/mnt/a''b\".h5'" in code["MATLAB"]
    assert code["R"] is not None
    assert '"/mnt/a\'b\\".h5"' in code["R"]


def test_what_is_under_way_stands_below_any_page(visit: Visit) -> None:
    """The part that says it, and that is renewed, leads back to the page's first from wherever it is shown."""
    assert 'hx-get="../../../../jobs?depth=4&amp;since=' in page_of(visit, SESSION)
    for answer in (visit.browser.get("/jobs?depth=4"), visit.browser.post("/verify?depth=4", data={"place": PLACE})):
        assert 'hx-get="../../../../jobs?depth=4&amp;since=' in answer.text
    assert 'hx-get="./jobs?depth=0&amp;since=' in visit.browser.get("/jobs?depth=x").text


def test_what_is_in_a_file(visit: Visit, server: FakeS3Server) -> None:
    """Objects with shapes, types and attributes; the page says what it fetched, and fetches it once."""
    server.forget_requests()
    answer = visit.browser.get(f"/structure/v0.5.0/{SESSION}")
    assert answer.headers["HX-Trigger"] == "state-changed"  # what says how much of the file is here is old
    text, file = answer.text, visit.house.dataset.version("0.5.0").file(SESSION)
    assert server.count("get_range") > 0
    assert 0 < file.cached_bytes <= file.size
    assert "were fetched" in text
    assert re.search(r"spike_times\b.*?<td>1000</td><td>float64</td>", text, re.DOTALL)
    assert "nwb_version" in text
    before = server.count("get_range")
    assert "Nothing was fetched for this" in page_of(visit, SESSION, kind="structure")
    assert server.count("get_range") == before


def test_the_map_of_a_file(visit: Visit) -> None:
    """It is drawn as shapes, and a table says the same of each part."""
    text = page_of(visit, LFP, kind="structure")
    assert text.count("<rect ") >= 2
    assert "style=" not in text
    parts = text[text.index('aria-label="Parts of the file"') :]
    assert "data" in parts
    assert "structure" in parts


def test_a_group_of_a_file(visit: Visit) -> None:
    """An object's own address shows what is below it; one that there is not is said in the page."""
    text = page_of(visit, SESSION, kind="structure", object="units")
    assert "spike_times_index" in text
    assert "session_description" not in text
    wrong = page_of(visit, SESSION, kind="structure", object="unitz")
    assert "no such object; / has units" in wrong
    assert "not an HDF5 file" in page_of(visit, UNITS, kind="structure")


def test_a_file_is_fetched_pinned_verified_and_deleted(visit: Visit) -> None:
    """Each is a job that says what it came to; what a pin holds is not deleted."""
    file = visit.house.dataset.version("0.5.0").file(SESSION)
    assert done(visit, "/verify", place=PLACE).is_failed
    assert done(visit, "/jobs", place=PLACE, version="0.5.0").outcome == "1 file here, and checked"
    assert done(visit, "/verify", place=PLACE).outcome == "its hash is the manifest's"
    assert not done(visit, "/jobs", place=PLACE, version="0.5.0", pin="mine").is_failed
    assert "pinned: mine" in page_of(visit, SESSION)
    held = done(visit, "/evict", place=PLACE)
    assert "the pin mine holds it; 'vbnfs unpin mine' lets go of it" in (held.outcome or "")
    assert file.cached_bytes == file.size
    visit.house.dataset.unpin("mine")
    assert not done(visit, "/evict", place=PLACE).is_failed
    assert file.cached_bytes == 0


@pytest.mark.parametrize("form", [{}, {"place": "../../etc/passwd"}, {"place": [PLACE, PLACE]}])
def test_a_form_names_one_file(visit: Visit, form: dict[str, str]) -> None:
    """What no page of this program sends begins nothing."""
    for address in ("/verify", "/evict"):
        assert visit.browser.post(address, data=form).status_code == 400
    assert visit.house.jobs.all() == []


def planned(visit: Visit, **form: str) -> str:
    """What a plan says; nothing is begun by it."""
    before = len(visit.house.jobs.all())
    answer = visit.browser.post("/plan?depth=1", data={"version": "0.5.0", "lfp": "yes", **form})
    assert len(visit.house.jobs.all()) == before
    return answer.text


def places(text: str) -> list[str]:
    """What a plan's button would begin with."""
    return re.findall(r'name="place" value="([^"]+)"', text)


def test_a_folder_is_fetched_and_pinned(visit: Visit) -> None:
    """A plan says how much of it is to be fetched, with its LFP or without; its button brings just that."""
    folder = SESSION.rpartition("/")[0]
    page = visit.browser.get("/files", params={"version": "0.5.0", "folder": folder}).text
    assert f'name="folder" value="{folder}"' in page
    assert '<option value="no">none</option>' in page
    whole = planned(visit, folder=folder)
    assert "<strong>2 files, " in whole
    assert places(whole) == [f"manifests/v0.5.0/{folder}"]
    assert 'hx-post="../jobs?depth=1"' in whole
    without = planned(visit, folder=folder, lfp="no", pin="mine")
    assert "<strong>1 file, " in without
    assert "LFP is left out: 1 file, " in without
    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', without))
    job = done(visit, "/jobs", **form)
    assert (job.title, job.outcome) == (
        "Pin mine: " + folder.rpartition("/")[2],
        "1 file here, and checked; held by the pin mine",
    )
    assert visit.house.dataset.file(LFP).cached_bytes == 0
    visit.house.dataset.unpin("mine")
    assert "All of it is here." in planned(visit, place=PLACE)


def test_what_words_choose_in_a_folder_is_fetched(visit: Visit) -> None:
    """A plan is of what the page shows: of names with these words, and of all names at the top of a version."""
    few = planned(visit, folder="project_metadata", words="UNIT")
    assert places(few) == ["manifests/v0.5.0/project_metadata/units.csv"]
    top = planned(visit, folder="")
    assert places(top) == ["manifests/v0.5.0/project_metadata", "manifests/v0.5.0/behavior_ecephys_sessions"]
    nothing = planned(visit, folder="project_metadata", words="nothing has this")
    assert "nothing is picked" in nothing
    assert places(nothing) == []


def test_a_page_hears_that_what_it_shows_is_old(visit: Visit) -> None:
    """What says how far jobs are says so to a page that is older than what one did; and nothing runs: it asks not."""
    since = re.findall(r"jobs\?depth=4&amp;since=([0-9.]+)", page_of(visit, SESSION))
    assert "state-changed" not in visit.browser.get("/jobs", params={"since": since[0]}).headers.values()
    assert done(visit, "/jobs", place=PLACE, version="0.5.0", lfp="yes").outcome == "1 file here, and checked"
    answer = visit.browser.get("/jobs", params={"since": since[0]})
    assert answer.headers["HX-Trigger"] == "state-changed"
    [now] = re.findall(r"since=([0-9.]+)", answer.text)
    assert float(now) > float(since[0])
    assert "HX-Trigger" not in visit.browser.get("/jobs", params={"since": now}).headers
    assert 'hx-trigger="seen from:document"' in answer.text
    for odd in ("x", "nan", "", "1e999"):
        assert visit.browser.get("/jobs", params={"since": odd}).status_code == 200
