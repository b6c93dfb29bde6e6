"""Pictures of the page of `vbnfs web`: what a browser shows of a small release on a server of this machine."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from docsite.mounted_pictures import release_served
from tests.browser import Browser
from vbnfs.demo.scale import ReleaseScale

_SCALE: Final = replace(ReleaseScale.tiny(), ecephys_sessions=6, behavior_sessions=0)
# A picture's name: the page's address, the window's width and height, and whether it is dark.
_SHOWN: Final[Mapping[str, tuple[str, int, int, bool]]] = {
    "web-sessions.png": ("sessions?words=novel", 1280, 720, False),
    "web-dark.png": ("changes?old=0.4.0&new=0.5.0", 960, 540, True),
}


def drawn_in_a_browser(folder: Path) -> dict[str, bytes]:
    """The pictures as PNG, by the names of their files. `folder` is an empty one to work in."""
    with (
        release_served(folder, _SCALE) as variables,
        _served(variables) as address,
        Browser(folder / "profile") as browser,
    ):
        browser.open(address)
        return {name: _drawn(browser, address.partition("?")[0], *how) for name, how in _SHOWN.items()}


def _drawn(browser: Browser, top: str, where: str, width: int, height: int, is_dark: bool) -> bytes:
    browser.show(width, height, is_dark=is_dark)
    browser.open(top + where)
    browser.wait("document.readyState == 'complete'")
    return browser.picture()


@contextmanager
def _served(variables: Mapping[str, str]) -> Iterator[str]:
    """The address of the page, with its token."""
    command = [sys.executable, "-m", "vbnfs", "web", "--port", "0"]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        [address] = re.findall(r"http://\S+", process.stdout.readline())
        try:
            yield address
        finally:
            process.terminate()
