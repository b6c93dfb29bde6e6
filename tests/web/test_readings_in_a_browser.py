"""A page that waits for tables, in a real browser."""

import threading
from pathlib import Path

import pytest

from tests.api.release import UNITS
from tests.browser import Browser
from tests.fakes.s3_server import FakeS3Server, Reply, Request, held
from tests.served_page import page

pytestmark = pytest.mark.slow


def test_a_page_that_waits_becomes_the_one_that_was_asked_for(server: FakeS3Server, tmp_path: Path) -> None:
    """It says how far it is, and the keyboard stays where it is meanwhile; what comes is said to those who listen.

    At 390 pixels nothing is beside the window, and the browser has nothing to complain of.
    """
    gate = threading.Event()

    def hold(request: Request, honest: Reply) -> Reply | None:
        return held(gate)(request, honest) if request.key.endswith(UNITS) else None

    server.behaviours.append(hold)
    with page(server, "--port", "0") as (address, _), Browser(tmp_path / "profile") as browser:
        browser.show(390, 800, is_dark=True)
        browser.open(address)
        browser.open(f"{address.partition('?')[0]}changes?old=0.4.0&new=0.5.0&tables=yes")
        heading = browser.evaluate("document.querySelector('h1').textContent")
        assert heading == "Being read: Tables of 0.4.0 and 0.5.0"
        assert browser.evaluate("document.querySelector('#how-far progress').getAttribute('aria-label')")
        assert browser.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0

        browser.evaluate(
            "document.querySelector('#reading a').focus(); window.first = document.querySelector('#how-far')"
        )
        browser.wait("document.querySelector('#how-far') !== window.first")
        assert browser.evaluate("document.activeElement.textContent") == "Look again"
        assert browser.evaluate("document.querySelector('#said').textContent") == ""
        gate.set()
        browser.wait("document.querySelector('h1').textContent == 'What changed from 0.4.0 to 0.5.0'")
        assert browser.evaluate("document.querySelector('#said').textContent").endswith("here now")
        assert browser.evaluate("document.title").startswith("What changed from 0.4.0 to 0.5.0")
        assert browser.complaints == []
