"""The page's process ends while it fetches: by a signal, or killed. The next page knows, and goes on."""

import html
import http.client
import os
import re
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, held
from tests.fixtures_mount import run_vbnfs
from tests.served_page import page
from tests.waiting import until

FILES: Final = {
    f"behavior_ecephys_sessions/{number}/ecephys_session_{number}.nwb": os.urandom(1 << 20) for number in range(3)
}
PLACES: Final = [f"manifests/v0.5.0/{path}" for path in FILES]
_LAST_SECONDS: Final = 20  # TimeoutStopSec of the unit

Ask = Callable[..., str]


def let_in(address: str) -> Ask:
    """What asks a page, as the browser that has opened its address."""
    host, query = re.fullmatch(r"http://([^/]+)/(.*)", address).groups()  # type: ignore[union-attr]

    def answer(path: str, headers: dict[str, str], form: dict[str, object] | None = None) -> tuple[str, str]:
        with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
            body = None if form is None else urlencode(form, doseq=True)
            connection.request("GET" if form is None else "POST", path, body=body, headers=headers)
            found = connection.getresponse()
            assert found.status < 400
            return html.unescape(found.read().decode()), str(found.getheader("Set-Cookie"))

    cookie = answer(f"/{query}", {})[1].partition(";")[0]
    [(name, proof)] = re.findall(r"hx-headers='{\"([^\"]+)\": \"([^\"]+)\"", answer("/", {"Cookie": cookie})[0])
    headers = {"Cookie": cookie, name: proof, "Content-Type": "application/x-www-form-urlencoded"}

    def ask(path: str, **form: object) -> str:
        return re.sub(r"<[^>]+>", "", answer(path, headers, form or None)[0])

    return ask


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_page_that_ends_while_it_pins(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in time, though S3 is silent; the next one says what was not finished, and goes on where that was."""
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(tmp_path / "cache"))
    with serve({"0.5.0": FILES}) as server:
        gate = threading.Event()
        with page(server, "--port", "0") as (address, process):
            ask = let_in(address)
            hold_after(server, 2, gate)
            assert "Pin mine: 3 files" in ask("/jobs", place=PLACES, version="0.5.0", pin="mine")
            until(lambda: server.count("get_range") + server.count("get_object") > 4)
            process.send_signal(number)
            assert process.wait(_LAST_SECONDS) == (0 if number != signal.SIGKILL else -number)
        gate.set()
        server.behaviours.clear()
        before = server.body_bytes
        with page(server, "--port", "0") as (address, process):
            ask = let_in(address)
            until(lambda: "Pin mine: 3 files: the page ended before this did; what had come stays" in said(ask))
            ask("/jobs/1/again", depth="0")
            until(lambda: "Pin mine: 3 files: 3 files here, and checked; held by the pin mine" in said(ask))
            process.send_signal(signal.SIGTERM)
            assert process.wait(_LAST_SECONDS) == 0
        if number != signal.SIGKILL:  # which leaves no time to write what has just come
            assert server.body_bytes - before < sum(map(len, FILES.values()))
        pins = run_vbnfs("pins", "--offline", "--endpoint-url", server.endpoint_url)
        assert "mine" in pins.stdout
        with page(server, "--port", "0") as (address, _):
            assert said(let_in(address)) == ""


def hold_after(server: FakeS3Server, count: int, gate: threading.Event) -> None:
    """Let S3 answer so many requests for files, and then none."""
    left = [count]

    def behave(request, honest):  # type: ignore[no-untyped-def]
        if request.kind not in {"get_range", "get_object"}:
            return None
        left[0] -= 1
        return None if left[0] >= 0 else held(gate)(request, honest)

    server.behaviours.append(behave)


def said(ask: Ask) -> str:
    """What the page says of its jobs, in a line."""
    return " ".join(ask("/jobs").replace(" Again", "").split())
