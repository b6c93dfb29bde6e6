"""`vbnfs web`: as a process of its own, which a browser asks."""

import re
import secrets
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.ports import free_port
from tests.served_page import page
from tests.test_documents import ROOT
from tests.waiting import until
from vbnfs.cli import web as work
from vbnfs.cli.serving_web import web

FILES = {"project_metadata/units.csv": b"unit_id,snr\n10,1.5\n"}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A dataset of one table."""
    with serve({"0.1.0": FILES}) as server:
        yield server


def browser() -> urllib.request.OpenerDirector:
    """What keeps cookies, and asks no proxy."""
    return urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(CookieJar()), urllib.request.ProxyHandler({})
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_page_is_served_until_it_is_ended(server: FakeS3Server, number: int) -> None:
    """The printed address leads to the page; a signal ends it with status 0, and nothing is written besides."""
    with page(server, "--port", "0") as (address, process):
        asked = browser()
        with asked.open(address, timeout=60) as answer:
            assert "token" not in answer.url
            assert "0.1.0" in answer.read().decode()
        with asked.open(address.partition("?")[0], timeout=60) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            browser().open(address.partition("?")[0], timeout=60)
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_port_that_is_taken(server: FakeS3Server) -> None:
    """The message names the port and what helps; the status is 1."""
    with page(server, "--port", "0") as (address, _):
        port = address.split(":")[2].partition("/")[0]
        with page(server, "--port", port) as (_, second):
            assert second.wait(60) == 1
            assert second.stderr is not None
            assert f"port {port}: Address already in use; '--port 0'" in second.stderr.read()


def test_the_unit_where_the_usual_port_is_taken(server: FakeS3Server, tmp_path: Path) -> None:
    """Another user of this machine has it: the page that systemd serves takes another one, which its file names."""
    unit = (ROOT / "systemd" / "user" / "vbnfs-web.service").read_text(encoding="utf-8")
    [command] = re.findall(r"^ExecStart=@VBNFS@ web (.*)$", unit, re.M)
    for specifier in ("%t", "%h"):
        command = command.replace(specifier, str(tmp_path))
    with ExitStack() as stack:
        with suppress(OSError):  # who else has it does as well
            stack.enter_context(socket.create_server(("127.0.0.1", 8791)))
        stack.enter_context(page(server, *command.split()))
        [place] = tmp_path.glob("vbnfs-web*.html")
        [written] = re.findall(r"http://[^\"]+", place.read_text(encoding="utf-8"))
        with browser().open(written, timeout=60) as answer:
            assert answer.status == 200


def test_an_address_in_a_file(server: FakeS3Server, tmp_path: Path) -> None:
    """With --address-file the token stands in that file alone, for this user alone, as long as the page is served."""
    place = tmp_path / "page.html"
    with page(server, "--port", "0", "--address-file", str(place)) as (address, process):
        assert address == ""
        assert place.stat().st_mode & 0o077 == 0
        [written] = re.findall(r"http://[^\"]+", place.read_text(encoding="utf-8"))
        with browser().open(written, timeout=60) as answer:
            assert answer.status == 200
        process.terminate()
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert written.partition("=")[2] not in process.stdout.read()
        assert not place.exists()
    with page(server, "--port", "0", "--address-file", str(tmp_path / "no" / "page.html")) as (_, process):
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert "page.html: No such file or directory; name another file" in process.stderr.read()


def test_a_token_that_is_given(server: FakeS3Server) -> None:
    """The program that starts it can choose the token, by a variable: it is not printed. A short one is refused."""
    token, port = secrets.token_hex(), free_port()
    with page(server, "--port", str(port), env={"VBNFS_WEB_TOKEN": token}) as (address, process):
        assert address == ""
        with browser().open(f"http://127.0.0.1:{port}/?token={token}", timeout=60) as answer:
            assert answer.status == 200
        process.terminate()
        assert process.communicate(timeout=60) == ("", "")
    with page(server, "--port", "0", env={"VBNFS_WEB_TOKEN": "0123"}) as (_, process):
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert "VBNFS_WEB_TOKEN: give 32 letters or digits at least" in process.stderr.read()


@pytest.mark.parametrize("host", ["https://hub.example", "hub.example:8000", "hub.example/", "*", ""])
def test_a_name_that_no_browser_sends(host: str) -> None:
    """What `--allow` has is a name: an address, a port or a pattern would allow nothing."""
    result = CliRunner().invoke(web, ["--allow", host])
    assert result.exit_code == 2
    assert "give a name alone, as hub.example.org" in result.output


def test_an_examination(server: FakeS3Server) -> None:
    """The page's button examines as `vbnfs doctor` does, but for the throughput; findings come as it has them."""
    with page(server, "--port", "0") as (address, _):
        asked = browser()
        top = address.partition("?")[0]
        with asked.open(address, timeout=60) as answer:
            [proof] = re.findall(r'"X-Vbnfs-Proof": "([0-9a-f]+)"', answer.read().decode())
        begin = urllib.request.Request(f"{top}doctor", data=b"", headers={"X-Vbnfs-Proof": proof})
        with asked.open(begin, timeout=60) as answer:
            assert "takes some seconds" in answer.read().decode()

        def findings() -> str:
            with asked.open(f"{top}doctor", timeout=60) as answer:
                return str(answer.read().decode())

        until(lambda: "takes some seconds" not in findings(), seconds=60)
        text = findings()
        assert "<dt>Kernel: " in text
        assert "<dt>Server: " in text
        assert "<dt>Throughput" not in text


@pytest.mark.parametrize("has_home", [True, False], ids=["home", "no home"])
def test_a_browser_gets_no_token_by_its_command_line(server: FakeS3Server, tmp_path: Path, has_home: bool) -> None:
    """`--open` names a file that is this user's alone, and that leads to the address, until the page ends.

    It stands in the home folder, under no hidden name: browsers in snaps may read there, and nowhere in /run or /tmp.
    """
    script, home = tmp_path / "browser", tmp_path / "home"
    script.write_text(f'#!/bin/sh\necho "$1" >{tmp_path}/asked.new\nmv {tmp_path}/asked.new {tmp_path}/asked\n')
    script.chmod(0o755)
    if has_home:
        home.mkdir()
    with page(server, "--port", "0", "--open", env={"BROWSER": str(script), "HOME": str(home)}) as (address, process):
        until((tmp_path / "asked").exists)
        asked = (tmp_path / "asked").read_text(encoding="utf-8").strip()
        opened = Path(asked.removeprefix("file://"))
        assert address.partition("=")[2] not in asked
        assert (opened.parent == home) is has_home
        assert not opened.name.startswith(".")
        assert opened.stat().st_mode & 0o077 == 0
        assert address in opened.read_text(encoding="utf-8")
        process.terminate()
        assert process.wait(60) == 0
        assert not opened.exists()


def test_a_home_that_goes_away_meanwhile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page ends all the same, though the file that leads to it cannot be deleted."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with work.leading_to("http://127.0.0.1:8791/?token=0", port=8791):
        home.rename(tmp_path / "away")
        home.write_text("")  # what is in it cannot be reached: ENOTDIR


def test_a_system_without_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no other user reads a command line, as on Windows, a browser opens the address itself, and no file."""
    monkeypatch.setattr(work, "HAS_USERS", False)
    monkeypatch.setenv("HOME", str(tmp_path))
    address = "http://127.0.0.1:8791/?token=0"
    with work.leading_to(address, port=8791) as opened:
        assert opened == address
        assert list(tmp_path.iterdir()) == []
