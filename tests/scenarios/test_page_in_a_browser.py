"""The page in a real browser: chromium, with what its scripts do, and axe-core's rules for people who do not see it.

axe-core is what `script/setup all` fetches; it is not a part of the package.
"""

import http.client
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

import vbnfs
from tests.browser import Browser
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import run_vbnfs
from tests.served_page import page
from tests.waiting import until

pytestmark = pytest.mark.slow

AXE: Final = Path(__file__).parents[2] / ".axe" / "axe-core-4.14.1.tgz"
FOLDER: Final = "behavior_ecephys_sessions/1044414982"
SESSION: Final = f"{FOLDER}/ecephys_session_1044414982.nwb"
LFP: Final = f"{FOLDER}/probe_probeA_lfp.nwb"
NOVEL: Final = "behavior_ecephys_sessions/1048576384"  # the session of an Sst mouse; probe C is in VISp
STRUCTURE, DRAWN = "document.querySelector('#structure table')", "document.querySelector('canvas')"
PAGES: Final = {  # and what each has once it is all there
    "": "true",
    "sessions": "true",
    "sessions?words=novel&f.experience_level=%27Novel%27": "true",
    "sessions?query=experience_levell+%3D%3D+1": "true",
    "changes?old=0.4.0&new=0.5.0": "true",
    "changes?old=0.4.0&new=0.5.0&tables=yes": "true",
    "areas?words=novel&read=yes": "document.querySelector('tbody tr')",
    "machine": "true",
    "files": "true",
    "files?folder=behavior_ecephys_sessions": "true",
    f"file/v0.5.0/{SESSION}": STRUCTURE,
    f"structure/v0.5.0/{SESSION}?object=units": STRUCTURE,
    f"look/v0.5.0/{SESSION}?look=unit": DRAWN,
    f"look/v0.5.0/{SESSION}?look=waveform": DRAWN,
    f"look/v0.5.0/{SESSION}?look=running": DRAWN,
    f"look/v0.5.0/{LFP}?look=lfp": DRAWN,
}
SETTLED: Final = "!document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling')"
USABLE: Final = """
    [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")]
        .filter(one => one.checkVisibility())
"""
AT_ONCE: Final = """
    new MutationObserver(() => document.querySelector('#plan button')?.click())
        .observe(document.querySelector('#plan'), { childList: true })
"""
NAME: Final = "one => [one.tagName, one.id, one.name, one.value, one.href, one.ariaLabel ?? one.innerText].join()"
SERIOUS: Final = {"serious", "critical"}


@dataclass(frozen=True)
class Open:
    """A browser that has been let in; `address` is the page's first, with '/' at its end."""

    browser: Browser
    address: str
    dataset: vbnfs.Dataset
    mountpoint: Path

    def open(self, where: str = "") -> None:
        """Go to one of the page's addresses."""
        self.browser.open(self.address + where)

    def shows(self, where: str, condition: str) -> bool:
        """Go there; whether an expression is true in the page at once. A busy machine has mounts answer late."""
        self.open(where)
        return bool(self.browser.evaluate(condition))


@pytest.fixture(scope="module")
def server(three_sessions: Mapping[str, Mapping[str, bytes]]) -> Iterator[FakeS3Server]:
    """The demo's release, with files of a few hundred kilobytes."""
    with serve(three_sessions) as server:
        yield server


@pytest.fixture(scope="module")
def opened(server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """The page of a small release, which is mounted as well, in a browser."""
    work = tmp_path_factory.mktemp("work")
    mountpoint = work / f"vbn_{'of_a_long_name_' * 8}"
    env = {"VBNFS_CACHE_DIR": f"{work}/cache", "VBNFS_LOG_FILE": f"{work}/log", "XDG_CONFIG_HOME": f"{work}/config"}
    mounted = run_vbnfs("mount", mountpoint, "--endpoint-url", server.endpoint_url, env=env)
    assert mounted.returncode == 0, mounted.stderr
    try:
        with page(server, "--port", "0", env=env) as (address, _), Browser(work / "profile") as browser:
            browser.open(address)
            with vbnfs.Dataset(endpoint_url=server.endpoint_url, cache_dir=work / "cache") as dataset:
                yield Open(browser, address.partition("?")[0], dataset, mountpoint)
    finally:
        run_vbnfs("umount", mountpoint, env=env)


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    with tarfile.open(AXE) as package:
        script = package.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


@pytest.mark.parametrize(("width", "is_dark"), [(1280, False), (390, True)])
def test_all_pages_can_be_used(opened: Open, axe: str, width: int, *, is_dark: bool) -> None:
    """On a screen and a telephone, light and dark, nothing is beside the window; axe-core finds nothing serious.

    No page has the browser complain, and none asks anybody else for anything.
    """
    opened.browser.show(width, 800, is_dark=is_dark)
    opened.browser.complaints.clear()
    opened.browser.requests.clear()
    found: dict[str, list[str]] = {}
    for where, condition in PAGES.items():
        opened.open(where)
        opened.browser.wait(condition)
        faults = violations(opened.browser, axe)
        if (beside := beside_the_window(opened.browser)) > 0:
            faults.append(f"{beside} pixels are beside the window")
        if faults:
            found[where] = faults
    assert found == {}
    assert opened.browser.complaints == []
    assert [one for one in opened.browser.requests if not one.startswith(opened.address)] == []


def beside_the_window(browser: Browser) -> int:
    """How many pixels of a page are to the right of the window."""
    return int(browser.evaluate("document.documentElement.scrollWidth - innerWidth"))


def violations(browser: Browser, axe: str) -> list[str]:
    """What axe-core finds that is serious: the rule, and the first elements that break it."""
    browser.evaluate(f"{axe}; 0")
    found = browser.evaluate("axe.run({ resultTypes: ['violations'] }).then(found => found.violations)")
    return [
        f"{one['id']}: {[node['html'] for node in one['nodes'][:3]]} {one['nodes'][0]['failureSummary']}"
        for one in found
        if one["impact"] in SERIOUS
    ]


def test_axe_would_find_a_fault(opened: Open, axe: str) -> None:
    """A picture without a text is found: the test above can fail."""
    opened.open()
    opened.browser.evaluate("document.querySelector('main').append(document.createElement('img'))")
    assert any(one.startswith("image-alt") for one in violations(opened.browser, axe))


def test_a_newcomer_fetches_what_a_paper_needs(opened: Open) -> None:
    """All Novel sessions of Sst mice with their LFP of VISp are found and fetched by clicks on what is to be seen.

    A plan goes when what is picked is another, and when it has begun: no button fetches what was picked before.
    The fetch goes on when the page is closed; a page that is opened afterwards says what came of it.
    """
    browser = opened.browser
    browser.show(1280, 800)
    opened.open()
    browser.click(named("header a", "Sessions"))
    for value in ("Novel", "Sst-", "VISp "):
        browser.wait(named(".filters label", value))
        browser.click(named(".filters label", value))
        browser.wait(f"{named('.filters label', value)}.querySelector('input').checked && {SETTLED}")
    assert browser.evaluate("document.querySelector('section strong').textContent") == "1 session"
    browser.click(named("#pick label", "all 1 that were found"))
    browser.click(named("#pick button", "How much is that?"))
    browser.wait(named("#plan button", "Fetch 2 files"))
    for _ in range(2):
        browser.click(named("#pick label", "all 1 that were found"))
        assert browser.evaluate("document.querySelector('#plan').textContent") == ""
    browser.click(named("#pick button", "How much is that?"))
    browser.wait(named("#plan button", "Fetch 2 files"))
    browser.click(named("#plan button", "Fetch 2 files"))
    browser.wait("document.querySelector('#jobs .job') && !document.querySelector('#plan button')")
    browser.open("about:blank")
    wanted = [f"{NOVEL}/ecephys_session_1048576384.nwb", f"{NOVEL}/probe_probeC_lfp.nwb"]
    until(lambda: all(opened.dataset.file(path).cached_bytes == opened.dataset.file(path).size for path in wanted))
    opened.open("machine")
    browser.wait(named("#jobs .good", "2 files here, and checked"))
    assert set(opened.dataset.latest.verify(wanted, progress=False)["outcome"]) == {"good"}
    others = [file for file in opened.dataset.latest.files if NOVEL in file.path and file.path not in wanted]
    assert [file.cached_bytes for file in others] == [0, 0, 0]


def named(selector: str, text: str) -> str:
    """A script that finds the element that has a text at its beginning; undefined where there is none."""
    begins = f"(one.textContent.trim() + ' ').startsWith({text!r})"
    return f"[...document.querySelectorAll({selector!r})].find(one => {begins})"


def test_sessions_are_found_and_pinned(opened: Open) -> None:
    """Words find a session without a new page, and stand in the address; 'back' shows the page before, all of it.

    What is picked is fetched and pinned, and the page says how far it is: the button that begins it does so from the
    moment that it stands there. Then the session is whole, verified and pinned.
    """
    browser = opened.browser
    browser.show(1280, 800)
    opened.open("sessions")
    browser.wait("document.querySelector('section strong').textContent == '3 sessions'")
    browser.evaluate("document.querySelector('#words').focus()")
    browser.type("novel")
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('section strong').textContent == '1 session'")
    assert "words=novel" in browser.evaluate("location.search")
    browser.evaluate("history.back()")
    browser.wait("document.querySelector('section strong')?.textContent == '3 sessions'")
    browser.wait("document.readyState == 'complete'")
    assert browser.evaluate("document.querySelectorAll('header nav a').length") > 3
    assert browser.evaluate("location.search") == ""

    opened.open("sessions?words=novel")
    browser.wait("window.htmx")
    browser.evaluate("document.querySelector('input[name=all]').checked = true")
    browser.evaluate("document.querySelector('#lfp').value = 'yes'")
    browser.evaluate("document.querySelector('#pin').value = 'figure'")
    browser.evaluate(AT_ONCE)
    browser.evaluate("document.querySelector('#pick button[type=submit]').click()")
    browser.wait(f"{named('#jobs .job', 'Pin figure: 5 files')}?.querySelector('.good, .problem')")
    outcome = browser.evaluate("document.querySelector('#jobs').textContent")
    assert "5 files here, and checked; held by the pin figure" in outcome
    opened.open("sessions?words=novel")
    tags = browser.evaluate("[...document.querySelectorAll('tbody .tag')].map(one => one.textContent)")
    assert tags == ["whole", "verified", "pinned"]


def test_what_is_picked_stays_picked(opened: Open) -> None:
    """Filters, a new order and a reload leave what is picked, and the name of a pin; another version has its own.

    The page says how many are picked, and how many of them it does not show; these are a part of the plan, too. A
    button lets go of all.
    """
    browser, said = opened.browser, "document.querySelector('#picked').textContent"
    browser.show(1280, 800)
    opened.open("sessions?sort=mouse_id")
    browser.wait("window.htmx")
    browser.click("document.querySelector('input[value=\"1044414982\"]')")
    browser.evaluate("document.querySelector('#pin').focus()")
    browser.type("both")
    assert browser.evaluate(said) == "1 picked"
    browser.evaluate("document.querySelector('#words').focus()")
    browser.type("novel")
    browser.press("Enter", 13, "\r")
    browser.wait(f"{said} === '1 picked, 1 of them not shown here'")
    browser.click("document.querySelector('input[value=\"1048576384\"]')")
    assert browser.evaluate(said) == "2 picked, 1 of them not shown here"
    browser.click(named("th a", "Mouse id"))
    browser.wait(f"location.search.includes('sort=-mouse_id') && {said} === '2 picked, 1 of them not shown here'")
    browser.wait("window.htmx")
    browser.click(named("#pick button", "How much is that?"))
    browser.wait(named("#plan button", "Pin as both 2 files"))
    opened.open("sessions?version=0.4.0")
    assert browser.evaluate(said) == ""
    opened.open("sessions")
    assert browser.evaluate(said) == "2 picked"
    assert browser.evaluate("document.querySelectorAll('tbody input:checked').length") == 2
    browser.click(named("#pick button", "Let go of all"))
    assert browser.evaluate(said) == ""
    assert browser.evaluate("document.querySelectorAll('tbody input:checked').length") == 0
    assert browser.evaluate("document.activeElement.textContent") == "How much is that?"


def test_why_there_is_no_answer_is_seen(opened: Open) -> None:
    """What a view refuses stands in the page: of a plan of nothing, and of filters."""
    browser = opened.browser
    opened.open("sessions")
    browser.wait("window.htmx")
    browser.evaluate("document.querySelector('#pick button[type=submit]').click()")
    browser.wait(
        "document.querySelector('#plan .problem')?.textContent.startsWith('no session with files is picked')"
    )
    browser.evaluate("htmx.ajax('GET', 'sessions?version=9.9.9', '#main')")
    browser.wait("document.querySelector('#main h1').textContent == 'This page cannot be shown'")


def test_on_paper(opened: Open) -> None:
    """A printed page is dark on white, has no head, filters or buttons, and is as wide as the paper: 718 pixels."""
    browser = opened.browser
    browser.show(718, 1000, is_dark=True, medium="print")
    for where in ("sessions", "areas?read=yes", f"file/v0.5.0/{SESSION}", "changes?old=0.4.0&new=0.5.0"):
        opened.open(where)
        displays = (
            "[...document.querySelectorAll('header, button, .filters, .acts')].map(one => one.checkVisibility())"
        )
        assert set(browser.evaluate(displays)) == {False}, where
        assert browser.evaluate("document.documentElement.scrollWidth") <= 718, where
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_keyboard_reaches_everything(opened: Open) -> None:
    """The first key leads to a link past the head of the page; with more of them, all that can be used has the focus.

    What has it is outlined. What is put in anew meanwhile is the same to who uses it: it has the same name.
    """
    browser = opened.browser
    browser.show(1280, 800)
    opened.open("sessions")
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter", 13, "\r")
    browser.wait("location.hash == '#main'")
    for where, condition in PAGES.items():
        opened.open(where)
        browser.wait(condition)
        browser.evaluate(f"window.named = {NAME}; window.wanted = new Set({USABLE}.map(window.named)); 0")
        for _ in range(browser.evaluate(f"{USABLE}.length") + 1):
            browser.press("Tab", 9)
            browser.evaluate("window.wanted.delete(window.named(document.activeElement))")
        assert browser.evaluate("[...window.wanted]") == [], where
    browser.press("Tab", 9)
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_program_that_reads_a_mount(opened: Open) -> None:
    """It stands on the machine's page, with what it reads; its mount stands there with its requests and hits.

    A long name of the mount is not beside the window.
    """
    reader = f"import sys; file = open({str(opened.mountpoint / SESSION)!r}, 'rb'); file.read(); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{reader}; sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # all of it was read
        programs = "document.querySelector('[aria-label^=\"Programs at\"]')"
        until(lambda: opened.shows("machine", f"{programs}?.innerText.includes('{process.pid}')"), seconds=60)
        row = opened.browser.evaluate(f"{named('th', str(opened.mountpoint))}.closest('tr').innerText").split()
        assert row[1] == "0.5.0"
        assert int(row[-5 if row[-1] == "ms" else -4].replace(",", "")) > 0
        opened.browser.show(390, 800)
        opened.browser.wait(programs)
        assert beside_the_window(opened.browser) <= 0
        process.communicate()


def test_copy_buttons(opened: Open) -> None:
    """They copy the path in the mount, the address at S3 with the version id, and the line of Python; and say so.

    What is put in anew meanwhile is so once they have said it.
    """
    browser = opened.browser
    browser.show(1280, 800)
    for _ in range(2):  # the first time its outline may be fetched: then the page follows
        opened.open(f"file/v0.5.0/{SESSION}")
        browser.wait(STRUCTURE)
    browser.evaluate("navigator.clipboard.writeText = async text => { window.clip = text }; 0")
    copied = []
    for label in ("Path in the mount", "S3 address", "Python"):
        browser.click(named("button.copy", label))
        browser.wait(f"window.clip && window.clip != {copied[-1:]!r}[0]")
        copied.append(browser.evaluate("window.clip"))
    assert browser.evaluate(f"!!{named('button.copy', 'Copied')}")
    browser.evaluate("saying += 1; window.old = document.querySelector('#copies button'); old.title = 'of before'; 0")
    browser.evaluate("document.dispatchEvent(new Event('state-changed')); 0")
    browser.wait("isLate")
    assert browser.evaluate("old.isConnected")
    browser.evaluate("saying -= 1; catchUp(); 0")
    browser.wait("!old.isConnected")
    browser.wait(named("button.copy", "Python"))  # after a while it says again what it does
    assert copied[0] == str(opened.mountpoint / "manifests/v0.5.0" / SESSION)
    assert "?versionId=" in copied[1]
    config = opened.dataset.config
    given = f"endpoint_url={config.endpoint_url!r}, cache_dir={str(config.cache_dir)!r}"
    assert copied[2] == f"import vbnfs; vbnfs.Dataset({given}).version('0.5.0').file('{SESSION}')"


def test_a_button_that_is_pressed_is_not_put_in_anew(opened: Open) -> None:
    """What changes while the mouse is down is shown once it is up, so that the click counts."""
    browser = opened.browser
    opened.open(f"file/v0.5.0/{SESSION}")
    browser.wait(STRUCTURE)
    browser.evaluate("navigator.clipboard.writeText = async text => { window.clip = text }; 0")
    browser.evaluate(f"window.old = {named('button.copy', 'S3 address')}; 0")

    def renew() -> None:
        browser.evaluate("old.title = 'of before'; document.dispatchEvent(new Event('state-changed')); 0")
        browser.wait("isLate")
        assert browser.evaluate("old.isConnected")

    browser.click("old", renew)
    browser.wait("window.clip && !old.isConnected")


@pytest.mark.parametrize(
    "opening",
    [[("pointerdown", 2)], [("pointerdown", 0), ("contextmenu", 0)]],
    ids=["right button", "Ctrl and the left one"],
)
def test_a_menu_of_the_browser_s_does_not_stop_the_page(opened: Open, opening: Sequence[tuple[str, int]]) -> None:
    """The button that opens it is no press of anything in the page, whose release may never be heard."""
    browser = opened.browser
    opened.open(f"file/v0.5.0/{SESSION}")
    browser.wait(STRUCTURE)
    browser.evaluate("window.old = document.querySelector('#copies button'); old.title = 'of before'; 0")
    for name, button in opening:
        browser.evaluate(f"old.dispatchEvent(new PointerEvent('{name}', {{bubbles: true, button: {button}}})); 0")
    browser.evaluate("document.dispatchEvent(new Event('state-changed')); 0")
    browser.wait("!old.isConnected")


@pytest.mark.root
def test_a_page_of_another_port(opened: Open) -> None:
    """A page at another port of this machine reads nothing of this one, and starts nothing here, in the same browser.

    The browser hands that port's server this page's cookie. A program of another user has nothing of it.
    """
    cookies: list[str] = []
    with stranger(cookies) as port:
        opened.browser.open(f"http://127.0.0.1:{port}/")
        for options in ("{}", "{method: 'POST', mode: 'no-cors', credentials: 'include', body: 'place=x'}"):
            asked = f"fetch('{opened.address}jobs', {options}).then(answer => answer.type, () => 'failed')"
            assert opened.browser.evaluate(asked) in {"failed", "opaque"}
        opened.open()  # its own page knows of no such job
        jobs = opened.browser.evaluate("fetch('jobs').then(answer => answer.text())")
        assert "place=x" not in jobs
        assert "Fetch x" not in jobs
    [cookie] = [one for one in cookies if "vbnfs-" in one][:1]
    ours = int(opened.address.split(":")[2].strip("/"))
    assert [answer_to(ours, cookie, user) for user in (os.geteuid(), 65534)] == [200, 403]


@contextmanager
def stranger(cookies: list[str]) -> Iterator[int]:
    """A server at another port, which writes down the cookies that it is sent; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cookies.append(self.headers.get("Cookie", ""))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>stranger</title>")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def answer_to(port: int, cookie: str, user: int) -> int:
    """The status of the page for a program of a user that has a cookie."""
    before = os.geteuid()
    os.seteuid(user)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()
    finally:
        os.seteuid(before)
    connection.request("GET", "/", headers={"Cookie": cookie})
    try:
        return connection.getresponse().status
    finally:
        connection.close()
