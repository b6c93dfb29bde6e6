"""What an open page does while jobs run, and while none does, in a real browser.

Its timers are forty times as fast as real ones, and its clock and whether it is hidden are set by the test.
"""

import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.browser import Browser
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, Reply, Request, held
from tests.fixtures_mount import run_vbnfs
from tests.scenarios.test_page_in_a_browser import SETTLED, named
from tests.served_page import page
from tests.waiting import until

pytestmark = pytest.mark.slow

FOLDER: Final = "behavior_ecephys_sessions/1048576384"
SESSION: Final = f"{FOLDER}/ecephys_session_1048576384.nwb"
OTHER: Final = "1044414982"
CLOCK: Final = """(() => {
    window.ahead = 0;
    window.hides = false;
    const [later, now] = [window.setTimeout.bind(window), Date.now];
    window.setTimeout = (what, milliseconds, ...rest) => later(what, (milliseconds ?? 0) / 40, ...rest);
    Date.now = () => now() + window.ahead;
    Object.defineProperty(document, "hidden", { get: () => window.hides });
    window.ticks = 0;
    const tick = () => { window.ticks += 1; window.setTimeout(tick, 1000); };
    tick();
})()"""  # a tick is what 'every 1s' takes


TROUBLE: Final = "document.querySelector('#trouble').innerText"
HAS_ALL_PARTS: Final = (
    "[...document.querySelectorAll('#map + .wide meter')].every(one => one.value === Math.max(1, one.max))"
)


@dataclass
class Watched:
    """A page that is open in a browser, its process, and S3, which answers for sessions once `gate` is set."""

    browser: Browser
    address: str
    gate: threading.Event
    server: FakeS3Server
    process: "subprocess.Popen[str]"
    cache: Path

    def open(self, where: str) -> None:
        """Go to one of the page's addresses, with all that it loads."""
        self.browser.open(self.address + where)
        self.browser.wait(f"window.htmx && document.querySelector('#jobs[hx-trigger*=seen]') && {SETTLED}")

    def asked_within(self, ticks: int, what: str = "") -> list[str]:
        """The addresses with this in them that the page asks for, while its clock ticks so often."""
        self.browser.evaluate("window.ticks = 0")
        before = len(self.browser.requests)
        self.browser.wait(f"window.ticks >= {ticks}")
        return [one for one in self.asked_since(before) if what in one]

    def asked_since(self, before: int) -> list[str]:
        """The addresses that the page has asked for after so many requests.

        The tab's icon is none of them: the browser itself asks for that, once, at a time of its own.
        """
        return [one for one in self.browser.requests[before:] if "/static/icon.svg" not in one]

    def asks(self, what: str) -> None:
        """Wait until the page has made three more requests with this in their address."""
        before = len(self.browser.requests)

        def has_asked() -> bool:
            self.browser.evaluate("0")  # the browser says then what has happened meanwhile
            return sum(what in one for one in self.browser.requests[before:]) >= 3

        until(has_asked)

    def hide(self, *, is_hidden: bool) -> None:
        """Have another tab be shown, or this one again."""
        shows = "document.dispatchEvent(new Event('visibilitychange'))"
        self.browser.evaluate(f"window.ahead += 2000; window.hides = {str(is_hidden).lower()}; {shows}")

    def begin(self, selector: str = "#pick button[type=submit]") -> None:
        """Ask how much is picked, and begin to fetch it."""
        self.browser.evaluate(f"document.querySelector({selector!r}).click()")
        self.browser.wait("document.querySelector('#plan button')")
        self.browser.evaluate("document.querySelector('#plan button').click()")
        self.browser.wait("document.querySelector('#jobs .job')")


@pytest.fixture
def watched(
    three_sessions: Mapping[str, Mapping[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """A page with an empty cache; nothing of sessions comes from S3 for now."""
    work, gate = tmp_path_factory.mktemp("work"), threading.Event()

    def hold(request: Request, honest: Reply) -> Reply | None:
        return held(gate)(request, honest) if request.key.endswith(".nwb") else None

    options = ("--port", "0", "--cache-dir", str(work / "cache"))
    with (
        serve(three_sessions) as server,
        page(server, *options) as (address, process),
        Browser(work / "profile") as browser,
    ):
        server.behaviours.append(hold)
        browser.show(1280, 800)
        browser.open(address)
        browser.before_each_page(CLOCK)
        yield Watched(browser, address.partition("?")[0], gate, server, process, work / "cache")
        gate.set()
        assert browser.complaints == []


def cells(row: str) -> str:
    """What stands in a row of the first table, by a text that it has."""
    return f"[...document.querySelectorAll('tbody tr')].find(one => one.innerText.includes({row!r})).innerText"


def test_sessions_follow_what_is_fetched(watched: Watched) -> None:
    """A session that has come is whole and verified in its row, without a reload; the sum says how much is here.

    What is ticked, and what has the focus, stays.
    """
    browser = watched.browser
    watched.open("sessions")
    browser.evaluate("document.querySelector('input[value=\"1048576384\"]').click()")
    watched.begin()
    browser.evaluate(f"document.querySelector('input[value=\"{OTHER}\"]').click()")
    browser.evaluate(f"document.querySelector('input[value=\"{OTHER}\"]').focus(); window.same = true")
    assert "verified" not in browser.evaluate(cells("1048576384"))
    before = browser.evaluate("document.querySelector('#cached').textContent")
    watched.gate.set()
    browser.wait(f"{cells('1048576384')}.includes('verified')")
    browser.wait(f"document.querySelector('#cached').textContent !== {before!r}")
    assert browser.evaluate(f"document.activeElement.value === '{OTHER}' && document.activeElement.checked")
    assert browser.evaluate("window.same")


def test_a_folder_and_a_file_follow_what_is_fetched(watched: Watched) -> None:
    """A folder is asked for by a button, its plan says how much it is, and its rows say what has come.

    So does the page of a file in another tab, as soon as somebody looks at it: what is in the file is shown as it is
    cached, and lines of programs have its path.
    """
    browser = watched.browser
    watched.open(f"files?folder={FOLDER}")
    watched.begin()
    watched.gate.set()
    browser.wait(f"{cells(SESSION.rpartition('/')[2])}.includes('100 %')")
    browser.wait(f"{cells(SESSION.rpartition('/')[2])}.includes('whole')")

    watched.open(f"file/v0.5.0/{SESSION}")
    browser.wait("document.querySelector('#structure table')")
    assert "verified" in browser.evaluate("document.querySelector('#state').innerText")
    browser.evaluate("window.confirm = () => true; document.querySelector('#acts [hx-post*=evict] button').click()")
    browser.wait("document.querySelector('#state').innerText.includes('0 %')")
    browser.wait(f"!{named('button.copy', 'Path in the cache')}")
    browser.wait(f"!{HAS_ALL_PARTS}")
    watched.begin()
    browser.wait("document.querySelector('#state').innerText.includes('verified blake2b')")
    browser.wait(named("button.copy", "Path in the cache"))
    browser.wait(HAS_ALL_PARTS)
    browser.evaluate("document.querySelector('#acts [hx-post*=verify] button').click()")  # what was put in anew works
    browser.wait(named("#jobs .good", "its hash is the manifest's"))


def test_a_page_asks_for_nothing_while_nothing_runs(watched: Watched) -> None:
    """None of these polls then, whether it is seen or not; one that is looked at again is made new, once."""
    watched.gate.set()
    for where in ("", "sessions", "files", f"file/v0.5.0/{SESSION}", "changes?old=0.4.0&new=0.5.0"):
        watched.open(where)
        if where.startswith("file/"):
            watched.browser.wait("document.querySelector('#structure table')")
        assert watched.asked_within(30) == [], where
    watched.open("sessions")
    watched.hide(is_hidden=True)
    assert watched.asked_within(30) == []
    before = len(watched.browser.requests)
    watched.hide(is_hidden=False)
    watched.browser.wait(SETTLED)
    assert len(watched.asked_within(30)) <= 1  # the last of these two, if it has not begun by then
    assert [one.rpartition("/")[2].partition("?")[0] for one in watched.asked_since(before)] == [
        "jobs",
        "sessions",
    ]


def test_what_nothing_changes_is_not_asked_for_anew(watched: Watched) -> None:
    """A quick look, and areas, are not made again when somebody comes back: what they read may be gone by then.

    So it is with a page of what is in a file, but for that part itself.
    """
    watched.gate.set()
    for where, then in (
        (f"look/v0.5.0/{SESSION}?look=running", ["jobs"]),
        ("areas?read=yes", ["jobs"]),
        (f"structure/v0.5.0/{SESSION}", ["jobs", "structure"]),
    ):
        watched.open(where)
        assert watched.asked_within(30) == [], where
        before = len(watched.browser.requests)
        watched.hide(is_hidden=True)
        watched.hide(is_hidden=False)
        watched.browser.wait(SETTLED)
        watched.asked_within(5)
        asked = watched.asked_since(before)
        assert [one.removeprefix(watched.address).split("?")[0].split("/")[0] for one in asked] == then


def test_a_page_that_is_hidden_asks_each_minute_how_far_jobs_are(watched: Watched) -> None:
    """One that is seen asks each second; one that is shown again asks at once, and shows what has come meanwhile."""
    browser = watched.browser
    watched.open("sessions")
    browser.evaluate("document.querySelector('input[value=\"1048576384\"]').click()")
    watched.begin()
    watched.asks("jobs")
    watched.hide(is_hidden=True)
    browser.wait(SETTLED)
    watched.asked_within(2)
    assert watched.asked_within(30) == []
    browser.evaluate("window.ahead += 61_000")
    assert len(watched.asked_within(30, "jobs")) == 1
    assert watched.asked_within(30) == []
    watched.gate.set()
    watched.hide(is_hidden=False)
    browser.wait(f"{cells('1048576384')}.includes('verified')")


def test_the_machine_s_page_rests(watched: Watched, tmp_path: Path) -> None:
    """With a mount it asks each five seconds: not while it is hidden, nor ten minutes after the last touch."""
    browser = watched.browser
    mounted = run_vbnfs("mount", tmp_path / "vbn", "--endpoint-url", watched.server.endpoint_url)
    assert mounted.returncode == 0, mounted.stderr
    try:
        watched.open("machine")
        browser.evaluate("document.querySelector('#mounts').focus()")
        watched.asks("machine")
        browser.wait("document.activeElement.id === 'mounts'")  # in what is put in anew
        watched.hide(is_hidden=True)
        browser.wait(SETTLED)
        assert watched.asked_within(40) == []
        watched.hide(is_hidden=False)
        watched.asks("machine")
        browser.evaluate("window.ahead += 600_000")
        browser.wait(SETTLED)
        watched.asked_within(2)
        assert watched.asked_within(40) == []
        browser.press("Shift", 16)
        watched.asks("machine")
    finally:
        run_vbnfs("umount", tmp_path / "vbn")


def test_what_has_no_answer_is_said(watched: Watched) -> None:
    """Why something is refused stands above the page while jobs are polled, until something that is asked for is had.

    A server that is gone stands there as soon as anything is asked for, and so does one that was started anew. Once
    the browser is let in there, the page follows again.
    """
    browser = watched.browser
    watched.open("sessions")
    browser.evaluate("document.querySelector('input[value=\"1048576384\"]').click()")
    watched.begin()
    browser.evaluate("htmx.ajax('POST', 'evict', { target: '#jobs', values: { place: 'elsewhere' } }); 0")
    browser.wait(f"{TROUBLE} === 'No form of this page.'")
    watched.asks("jobs")
    assert browser.evaluate(TROUBLE) == "No form of this page."
    browser.evaluate("document.querySelector('#words').form.requestSubmit()")
    browser.wait(f"{TROUBLE} === ''")

    watched.process.kill()
    browser.wait(f"{TROUBLE}.startsWith(\"'vbnfs web' does not answer\")")
    assert browser.evaluate("document.querySelector('#trouble').checkVisibility()")
    port = watched.address.split(":")[2].strip("/")
    with page(watched.server, "--port", port, "--cache-dir", str(watched.cache)) as (address, _):
        browser.wait(f"{TROUBLE}.startsWith(\"Open the address that 'vbnfs web' has printed\")")
        browser.evaluate(f"fetch({address!r}).then(answer => answer.status)")
        browser.wait(f"{TROUBLE} === ''")
        browser.wait(named("#jobs .problem", "the page ended before this did"))
    browser.evaluate("document.querySelector('#words').form.requestSubmit()")  # no job is asked for now
    browser.wait(f"{TROUBLE}.startsWith(\"'vbnfs web' does not answer\")")
    browser.evaluate("0")
    assert not any("exceptionId" in one for one in browser.complaints)
    browser.complaints.clear()  # the browser and htmx say what they did not get


def test_buttons_of_a_job_can_be_used_while_it_runs(watched: Watched) -> None:
    """What ends a job keeps the focus while it is put in anew each second, and says which job it is of.

    It is not put in anew while it is pressed, by the mouse or the space bar, however long that takes.
    """
    browser, button = watched.browser, "document.querySelector('#jobs button')"
    watched.open("sessions")
    browser.evaluate("document.querySelector('input[value=\"1048576384\"]').click()")
    watched.begin()
    assert browser.evaluate(f"{button}.ariaLabel") == "End: Fetch ecephys_session_1048576384.nwb"
    browser.evaluate(f"{button}.focus(); window.old = {button}; 0")
    watched.asks("jobs")
    browser.wait("!old.isConnected")
    assert browser.evaluate(f"document.activeElement === {button}")
    browser.evaluate("window.asked = 0; window.confirm = () => { asked += 1; return false }; 0")
    browser.press(" ", 32, meanwhile=lambda: watched.asks("jobs"))
    browser.wait("asked === 1")
    browser.click(button, lambda: watched.asks("jobs"))
    browser.wait("asked === 2")
    watched.asks("jobs")  # once it is released it is put in anew again
    browser.evaluate(f"window.old = {button}; 0")
    browser.wait("!old.isConnected")
