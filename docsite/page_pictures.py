"""Pictures of the page of `vbnfs web`: what a browser shows of a small release on a server of this machine.

A picture has in it what it was drawn of, as a hash: so it is known, without comparing what two browsers draw, whether
the page is another one since.
"""

import hashlib
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Final

from docsite.mounted_pictures import release_served
from tests.browser import Browser
from vbnfs.demo.scale import ReleaseScale

# What is only heard has folders of the machine that draws it.
_SEEN_TEXT: Final = """(main => {
    main.querySelectorAll('.only-heard').forEach(one => one.remove());
    return main.textContent;
})(document.querySelector('main').cloneNode(true))"""
_SCALE: Final = replace(ReleaseScale.tiny(), ecephys_sessions=3, behavior_sessions=0, probes=4)
# A picture's name: the page's address, the window's width and height, and whether it is dark.
_SHOWN: Final[Mapping[str, tuple[str, int, int, bool]]] = {
    "web-sessions.png": ("sessions?f.structure_acronyms=%27VISp%27", 1280, 720, False),
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


_PNG_HEAD: Final = 8 + 25  # its signature and the chunk IHDR, which is the first one
_KEYWORD: Final = b"Source"  # of a chunk tEXt (PNG, 11.3.3.3)


def source_of(picture: bytes) -> str:
    """The hash of what a picture was drawn of; '' where it has none."""
    found = re.search(_KEYWORD + rb"\0([0-9a-f]{64})", picture)
    return "" if found is None else found[1].decode()


def _with_source(picture: bytes, text: str) -> bytes:
    """A picture as PNG, with the hash of the text of a page and of its style in it. Numbers may be others."""
    style = (files("vbnfs.web") / "static" / "page.css").read_text(encoding="utf-8")
    source = hashlib.sha256((re.sub(r"[\d.,]+", "", text) + style).encode()).hexdigest()
    body = b"tEXt" + _KEYWORD + b"\0" + source.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return picture[:_PNG_HEAD] + chunk + picture[_PNG_HEAD:]


def _drawn(browser: Browser, top: str, where: str, width: int, height: int, is_dark: bool) -> bytes:
    browser.show(width, height, is_dark=is_dark)
    browser.open(top + where)
    browser.wait("document.readyState == 'complete'")
    return _with_source(browser.picture(), browser.evaluate(_SEEN_TEXT))


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
