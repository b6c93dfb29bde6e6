"""Quick looks into files: what they show, and that no more is fetched than what they are of."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.waiting import until
from tests.web.conftest import Visit, visiting
from vbnfs.web.quick_looks import AskedLook, asked_of, offered

FOLDER = "behavior_ecephys_sessions/1044385384"
SESSION = f"{FOLDER}/ecephys_session_1044385384.nwb"
LFP = f"{FOLDER}/probe_probeA_lfp.nwb"
UNITS, SPIKES, SAMPLES = 8, 60_000, 82


def write_session(path: Path) -> None:
    """Eight units with spikes, waveforms of 128 channels, running speed, and changes of the stimulus."""
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file["units/id"] = 950_000_000 + np.arange(UNITS)
        times = np.sort(random.uniform(0, 600, (UNITS, SPIKES)), axis=1)
        file["units/spike_times"], file["units/spike_times_index"] = times.ravel(), SPIKES * np.arange(1, UNITS + 1)
        file["units/waveform_mean"] = random.normal(size=(UNITS * SAMPLES, 128))
        file["units/waveform_mean_index"] = SAMPLES * np.arange(1, UNITS + 1)
        file["processing/running/speed/data"] = np.full(20_000, 12.0)
        file["processing/running/speed/timestamps"] = np.arange(20_000) / 60
        file["intervals/images_presentations/start_time"] = np.arange(0, 600, 0.75)
        file["intervals/images_presentations/is_change"] = np.arange(800) % 10 == 9


def write_lfp(path: Path) -> None:
    """A minute of 64 channels at 1,250 Hz, that begins at second 5."""
    with h5py.File(path, "w") as file:
        group = file.create_group("acquisition/probe_1_lfp/probe_1_lfp_data")
        samples = np.arange(60 * 1250)
        group["data"] = (1e-4 * np.sin(samples / 50)[:, None] * np.linspace(0.1, 1, 64)).astype(np.float32)
        group["timestamps"] = 5 + samples / 1250


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """A release of a session and the LFP of a probe."""
    place = tmp_path_factory.mktemp("looks")
    write_session(place / "session")
    write_lfp(place / "lfp")
    tables = {"project_metadata/units.csv": b"unit_id\n1\n"}
    files = {SESSION: (place / "session").read_bytes(), LFP: (place / "lfp").read_bytes(), **tables}
    with serve({"0.5.0": files}) as server:
        yield server


@pytest.fixture
def visitor(looked_at: FakeS3Server) -> Iterator[Visit]:
    """The page of that release, with nothing cached."""
    with visiting(looked_at) as visit:
        yield visit


def look(visit: Visit, path: str, **query: str) -> str:
    """The page of a look."""
    answer = visit.browser.get(f"/look/v0.5.0/{path}", params=query)
    assert answer.status_code == 200
    return answer.text


def plots(text: str) -> list[dict[str, object]]:
    """What the figures of a page draw."""
    return [json.loads(html.unescape(one)) for one in re.findall(r'data-plot="([^"]*)"', text)]


def test_a_unit_around_changes(visitor: Visit, looked_at: FakeS3Server) -> None:
    """Raster and rate of the unit that is asked for; its spikes are fetched, and not those of all units."""
    before = looked_at.body_bytes
    text = look(visitor, SESSION, look="unit", unit="950000005")
    raster, psth = plots(text)
    assert raster["is_points"]
    assert psth["y_label"] == "Spikes a second"
    assert "Unit 950000005 around 80 changes" in text
    came = looked_at.body_bytes - before
    assert came < UNITS * SPIKES * 8 / 2
    assert "were fetched" in text
    # What was read ahead of the first look may come during the next one.
    until(lambda: "nothing was fetched" in look(visitor, SESSION, look="unit", unit="950000005"))


def test_the_first_unit_and_one_that_is_not(visitor: Visit) -> None:
    """Without a number it is the first one; a number that no unit has is said, and the form stays."""
    assert "Unit 950000000:" in look(visitor, SESSION, look="waveform")
    text = look(visitor, SESSION, look="unit", unit="12")
    assert "it has no unit 12; the first of its 8 units is 950000000" in text
    assert 'value="12"' in text


def test_the_page_says_how_much_came(visitor: Visit, looked_at: FakeS3Server) -> None:
    """What is said to be fetched is what S3 has sent; the same look again fetches nothing."""
    file = visitor.house.dataset.file(SESSION)
    before = looked_at.body_bytes
    fetched_bytes = visitor.house.looking.look(file, AskedLook("waveform")).fetched_bytes
    assert fetched_bytes > 0
    looked_at.wait_until(lambda server: server.body_bytes - before >= fetched_bytes)
    # What was read ahead of the first look may come during the next one, as above.
    until(lambda: visitor.house.looking.look(file, AskedLook("waveform")).fetched_bytes == 0)


def test_looks_that_take_all_places(visitor: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that finds no place for long says so, and holds up no other view; later there is one."""
    monkeypatch.setattr("vbnfs.web.looking._WAIT_SECONDS", 0.01)
    places = visitor.house.looking._places
    while places.acquire(blocking=False):
        pass
    assert "other quick looks are being made" in look(visitor, SESSION, look="running")
    places.release()
    assert "20,000 samples" in look(visitor, SESSION, look="running")
    assert "20,000 samples" in look(visitor, SESSION, look="running")


def test_running(visitor: Visit) -> None:
    """The speed over the session, with words and a table for those who do not see it."""
    text = look(visitor, SESSION, look="running")
    assert "20,000 samples; in 100% of them" in text
    assert 'role="img" aria-label="Running speed: 20,000 samples' in text
    assert '<td class="number">12.0</td>' in text
    assert "<p>40 of 1,000, evenly chosen:</p>" in text


def test_a_stretch_of_lfp(visitor: Visit, looked_at: FakeS3Server) -> None:
    """From the second that is asked for on, as long as that; of the file no more than a part is fetched."""
    size_bytes = visitor.house.dataset.file(LFP).size
    before = looked_at.body_bytes
    text = look(visitor, LFP, look="lfp", start="30", seconds="2")
    assert looked_at.body_bytes - before < size_bytes / 5
    [plot] = plots(text)
    x = plot["x"]
    assert isinstance(x, list)
    assert (x[0], x[-1]) == (pytest.approx(30.0, abs=0.01), pytest.approx(32.0, abs=0.01))
    series = plot["series"]
    assert isinstance(series, list)
    assert len(series) <= 12


def test_looks_that_a_file_offers(visitor: Visit) -> None:
    """The page of what is in a file leads to the looks that it has the arrays for."""
    assert "look=unit" in visitor.browser.get(f"/structure/v0.5.0/{SESSION}").text
    of_lfp = visitor.browser.get(f"/structure/v0.5.0/{LFP}").text
    assert "look=lfp" in of_lfp
    assert "look=unit" not in of_lfp
    assert offered({"/units/id"}) == []


def test_looks_that_there_are_not(visitor: Visit) -> None:
    """A file that lacks what a figure needs is said in words; a kind that there is not is a page with 404."""
    assert "no such figure can be made" in look(visitor, LFP, look="unit")
    assert 'role="alert"' in look(visitor, "project_metadata/units.csv", look="running")
    assert visitor.browser.get(f"/look/v0.5.0/{LFP}", params={"look": "nothing"}).status_code == 404


def test_what_an_address_asks_for() -> None:
    """Numbers that are none, or are too large, are as if they were not there."""
    assert asked_of({"look": "lfp", "start": "1e300", "seconds": "900"}) == AskedLook("lfp", None, 0.0, 5.0)
    assert asked_of({"look": "lfp", "start": "nan", "seconds": "-1"}) == AskedLook("lfp", None, 0.0, 1.0)
    assert asked_of({"look": "unit", "unit": "²"}).unit is None
