"""What the page says of mounts and the cache."""

import dataclasses
import re
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.figures_example import FAILURE, FILL, KERNEL, READER, figures
from tests.waiting import until
from tests.web.conftest import ADDRESS, FINDINGS, Visit
from vbnfs.config.sources import load_config
from vbnfs.errors import MountError
from vbnfs.figures import Figures
from vbnfs.host.mountinfo import MountEntry
from vbnfs.web import app, machine_page
from vbnfs.web.app import make_app
from vbnfs.web.examining import Examining, Finding
from vbnfs.web.guard import TOKEN, Guard, Keys
from vbnfs.web.house import House
from vbnfs.web.machine_page import Looks, MountRow, by_age, remedies
from vbnfs.web.rendering import Pages

FIGURES = figures()
ENTRY = MountEntry(Path("/mnt/vbn"), "0:77", "fuse.vbnfs", "vbn", 0)


def grown(figures: Figures, **counters: int) -> Figures:
    """The same figures, with more in some counters."""
    metrics = dict(figures.metrics)
    for name, count in counters.items():
        metrics[name] = metrics.get(name, 0) + count
    return dataclasses.replace(figures, metrics=metrics)


def test_rates_are_those_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look at a mount has no rate; the second has what has grown, in the time between them."""
    now, later = [100.0], grown(FIGURES, read_bytes=4_000, received_bytes=1_000, range_requests=6)
    answers = iter([FIGURES, later])
    monkeypatch.setattr(machine_page, "_now", lambda: now[0])
    looks = Looks(lambda entry: next(answers))
    [first] = looks.at([ENTRY])
    assert (first.mountpoint, first.read_rate) == ("/mnt/vbn", None)
    now[0] += 2.0
    [second] = looks.at([ENTRY])
    assert (second.read_rate, second.fetched_rate, second.requests_rate) == (2_000, 500, 3)


def test_rates_where_several_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the rate of some seconds, however short it is since another one looked."""
    now, looks_at = (
        [0.0],
        {100.0: 0, 100.5: 1_000, 105.0: 5_000, 105.01: 5_100, 106.0: 6_000, 107.5: 7_500, 180.0: 8_000},
    )
    monkeypatch.setattr(machine_page, "_now", lambda: now[0])
    looks, rates = Looks(lambda entry: grown(FIGURES, read_bytes=looks_at[now[0]])), list[float | None]()
    for now[0] in looks_at:
        rates.append(looks.at([ENTRY])[0].read_rate)
    assert rates == [None, None, 1_000, pytest.approx(5_100 / 5.01), 1_000, 1_000, None]


def test_another_daemon_has_no_rate() -> None:
    """A mount that was made anew counts from nothing: its figures are not compared with those before."""
    answers = iter([FIGURES, dataclasses.replace(FIGURES, pid=FIGURES.pid + 1)])
    looks = Looks(lambda entry: next(answers))
    assert [looks.at([ENTRY])[0].read_rate for _ in range(2)] == [None, None]


def test_a_mount_that_does_not_answer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked by a thread of its own; one that hangs, or is refused, is a row that says so."""
    monkeypatch.setattr(machine_page, "_SECONDS", 0.2)
    never = threading.Event()
    hangs, refuses = (dataclasses.replace(ENTRY, mountpoint=Path(f"/mnt/{name}")) for name in ("hangs", "refuses"))

    def ask(entry: MountEntry) -> Figures:
        if entry is hangs:
            never.wait(60)
        if entry is refuses:
            raise MountError("/mnt/refuses: its daemon is gone")
        return FIGURES

    rows = Looks(ask).at([hangs, refuses, ENTRY])
    never.set()
    assert [row.figures is None for row in rows] == [True, True, False]
    assert remedies(rows) == {"/mnt/hangs": "its daemon does not answer", "/mnt/refuses": "its daemon is gone"}


def test_the_cache_by_age() -> None:
    """Each file counts once, in the shortest time that has its last use."""
    rows = by_age([(10.0, 5), (86_401.0, 7), (9e9, 1), (20.0, 2)])
    assert [(row.files, row.size_bytes) for row in rows] == [(2, 7), (1, 7), (0, 0), (1, 1)]


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:9464", "http://127.0.0.1:9464/metrics"),
        ("[::1]:9464", "http://[::1]:9464/metrics"),
        (None, None),
        ("elsewhere.example:80", None),
        ("127.0.0.1:9464/x", None),
    ],
)
def test_the_link_for_prometheus(address: str | None, url: str | None) -> None:
    """A mount that answers Prometheus has a link to that, which leads to this machine alone."""
    assert MountRow("/mnt/vbn", figures(metrics_address=address)).metrics_url == url


def test_an_examination_is_made_once_at_a_time() -> None:
    """A second one that is asked for meanwhile is the same; what needs doing comes first, and a failure is said."""
    gate, count = threading.Event(), [0]

    def examine() -> Sequence[Finding]:
        gate.wait(60)
        count[0] += 1
        if count[0] == 2:
            raise OSError("no room")
        return FINDINGS

    examining = Examining(examine)
    assert (examining.now.findings, examining.now.is_running) == (None, False)
    for _ in range(3):
        examining.begin()
        assert examining.now.is_running
    gate.set()
    until(lambda: not examining.now.is_running)
    assert [one["check"] for one in examining.now.findings or ()] == ["disk", "kernel"]
    assert (count, examining.now.needs) == ([1], 1)
    examining.begin()
    until(lambda: not examining.now.is_running)
    assert examining.now.failure == "The examination failed: no room"


def test_an_examination_with_a_defect_ends() -> None:
    """Whatever goes wrong, an examination ends, and says what it was; the next one can be made."""

    def examine() -> Sequence[Finding]:
        raise KeyError("fuse")

    examining = Examining(examine)
    for _ in range(2):
        examining.begin()
        until(lambda: not examining.now.is_running)
        reason = "a defect of vbnfs (KeyError: 'fuse'); please report it"
        assert examining.now.failure == f"The examination failed: {reason}"


def test_findings_on_the_page(visit: Visit) -> None:
    """A button begins an examination; its findings stand on the page afterwards, with remedies, as text."""
    assert "Examine this machine<" in visit.browser.get("/machine").text
    visit.browser.post("/doctor")
    until(lambda: not visit.house.examining.now.is_running)
    for path in ("/doctor", "/machine"):
        text = visit.browser.get(path).text
        assert "1 thing needs doing." in text
        assert "&lt;full&gt;<br>Remedy: &#39;vbnfs clean&#39;<br>" in text
        assert "Examine this machine again" in text


def test_the_cache_by_version(visit: Visit) -> None:
    """Each version has a row: how much of it is cached."""
    visit.house.dataset.prefetch(["project_metadata/units.csv"], progress=False)
    rows = re.findall(r'<th scope="row">(0\.\d\.0)</th>.*?</meter> (\d+|-) %', visit.browser.get("/machine").text)
    assert [name for name, _ in rows] == ["0.5.0", "0.4.0"]


def test_the_machine_without_its_dataset(tmp_path: Path) -> None:
    """Without network, with an empty cache, the page says why the dataset is not there, and can examine all else."""
    keys = Keys()
    config = load_config(command_line={"offline": "yes", "cache_dir": str(tmp_path)})
    with closing(House(config, examine=lambda: FINDINGS)) as house:
        inside = Guard(make_app(house, Pages(proof=keys.proof, dataset=config.project)), keys)
        with TestClient(inside, base_url=ADDRESS) as browser:
            browser.get("/", params={TOKEN: keys.token})
            answer, first = browser.get("/machine"), browser.get("/")
    assert answer.status_code == 200
    assert "<p>leave --offline out</p>" in first.text  # as the command has it
    assert "nothing is kept of the dataset" in answer.text
    assert str(tmp_path) in answer.text
    assert "Examine this machine<" in answer.text


def test_all_that_a_mount_says(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs with files and readers, hits, requests, what failed with what helps, what is brought; as text."""
    evil = dataclasses.replace(READER, program="<b>python", file="<i>.nwb")
    shown = figures(
        metrics={"read_requests": 200, "fetched_reads": 25, "range_requests": 1_234},
        readers=[evil, KERNEL],
        failures=[FAILURE],
        fills=[FILL],
        server_problem="no answer; connect to the network",
        metrics_address="127.0.0.1:9464",
    )
    monkeypatch.setattr(app, "list_mounts", lambda: [ENTRY])
    monkeypatch.setattr(app, "is_ours", lambda entry: True)
    monkeypatch.setattr(visit.house, "looks", Looks(lambda entry: shown))
    text = visit.browser.get("/machine").text
    for part in (
        *("&lt;b&gt;python", "&lt;i&gt;.nwb", "MATLAB", ">4711<", ">4712<", ">kernel<", ">10.0 MiB<"),
        *("87.5 %", ">1,234<", "a.nwb: offline (no answer); connect to the network", "3 times, last 12 min ago"),
        *("20.0 MiB of 100.0 MiB, 12 of 44 files", "</code>: no answer; connect to the network"),
        'href="http://127.0.0.1:9464/metrics">',
    ):
        assert part in text, part
    assert "<b>python" not in text


def test_a_mount_of_roots(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with the command that shows it, as `vbnfs status` names it: root alone may ask for the rest."""
    entry = dataclasses.replace(ENTRY, mountpoint=Path("/mnt/<b> vbn"))
    monkeypatch.setattr(app, "roots_mounts", lambda: [entry])
    monkeypatch.setattr(app, "list_mounts", list)
    text = visit.browser.get("/machine").text
    assert "Nothing of yours is mounted." in text
    assert "<code>/mnt/&lt;b&gt; vbn</code> is root's;" in text
    assert "<code>vbnfs status &#39;/mnt/&lt;b&gt; vbn&#39;</code>" in text


def test_the_page_of_a_machine_without_mounts(visit: Visit) -> None:
    """It says what mounts, and has the cache and the pins."""
    visit.house.dataset.pin("figure", ["project_metadata/units.csv"], progress=False)
    answer = visit.browser.get("/machine")
    assert answer.status_code == 200
    assert str(visit.house.config.cache_dir) in answer.text
    assert ">figure</th>" in answer.text
    assert "vbnfs unpin NAME" in answer.text
    visit.house.dataset.unpin("figure")
