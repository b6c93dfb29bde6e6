"""What docs/troubleshooting.md quotes is what is seen, on a real mount: error numbers, reasons, a dead daemon."""

import errno
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import Behaviour, FakeS3Server, always, error, for_kind, held
from tests.fixtures_mount import Mounts, run_vbnfs, until
from tests.test_documents import ROOT, anchors_of
from vbnfs.host.mount_programs import is_alive

PAGE = ROOT / "docs" / "troubleshooting.md"
TEXT = PAGE.read_text(encoding="utf-8")
# What S3 does, the number that a read fails with, and a word of the reason that the section has.
FAULTS: dict[str, tuple[Behaviour, int, str]] = {
    "overloaded": (always(error(503, "SlowDown")), errno.EIO, "HTTP 503"),
    "elsewhere": (always(error(301, "PermanentRedirect", Location="http://x.test/")), errno.EIO, "points to"),
    "forbidden": (always(error(403, "AccessDenied")), errno.EACCES, "HTTP 403 AccessDenied"),
    "gone": (always(error(404, "NoSuchVersion")), errno.ESTALE, "S3 does not have this (any more)"),
    "silent": (held(threading.Event()), errno.ETIMEDOUT, "--silence-timeout"),
}


# Commands by which the page has its reader see what is so.
COMMANDS = (
    *("findmnt -n -o OPTIONS ~/vbn", "findmnt -n -o MAJ:MIN ~/vbn", "findmnt -t fuse.vbnfs", "du -h FILE"),
    *(f"getfattr -n user.vbnfs.{name} --only-values FILE" for name in ("cached", "url")),
)


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with a file for each fault."""
    with serve({"0.4.0": {f"data/{name}.csv": f"{name}\n".encode() for name in (*FAULTS, "away")}}) as server:
        yield server


def section(heading: str) -> str:
    """The text of a section, by the part of its address behind `#`."""
    for part in re.split(r"^#+ ", TEXT, flags=re.MULTILINE):
        title, _, text = part.partition("\n")
        if re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") == heading:
            return text
    raise AssertionError(heading)


def sections_of(number: int) -> list[str]:
    """The sections to which the table of error numbers leads."""
    name = errno.errorcode[number]
    [row] = [row for row in TEXT.splitlines() if re.match(rf"\| (?:E\w+, )*{name}\b", row)]
    return re.findall(r"\(#(.+?)\)", row)


def failure_of(path: Path) -> tuple[int, str]:
    """The number with which a read fails, and the reason that the file gives."""
    with pytest.raises(OSError, match=r"\[Errno") as raised:
        path.read_bytes()
    return raised.value.errno or 0, os.getxattr(path, "user.vbnfs.last_error").decode()


def seen(*command: str | Path) -> str:
    """What a command writes to standard error, in English."""
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env).stderr.strip()


def check_commands(mountpoint: Path, file: Path) -> None:
    """The page's commands succeed, and say something."""
    for command in COMMANDS:
        assert f"`{command}`" in TEXT or f"$({command})" in TEXT
        words = command.replace("~/vbn", str(mountpoint)).replace("FILE", str(file)).split()
        assert subprocess.run(words, capture_output=True, check=True).stdout, command


def test_what_is_seen_is_quoted(mounts: Mounts, server: FakeS3Server) -> None:
    """Each error number leads to a section that has the reason which the file gives; so does a dead mount."""
    mount = mounts(server.endpoint_url, "--io-timeout", "2", "--silence-timeout", "1")
    data = mount.path / "data"
    for name, (behaviour, number, words) in FAULTS.items():
        server.behaviours[:] = [for_kind("get_range", behaviour)]
        found, reason = failure_of(data / f"{name}.csv")
        assert (name, found, words in reason) == (name, number, True), reason
        places = sections_of(number)
        assert set(places) <= anchors_of(PAGE)
        assert any(words in section(place) for place in places), (name, places)
    check_commands(mount.path, data / "gone.csv")
    with pytest.raises(OSError, match="Read-only file system"):
        (data / "new").touch()
    assert "touch: cannot touch '/home/me/vbn/x': Read-only file system" in section("read-only-file-system")

    os.kill(mount.status()["pid"], signal.SIGKILL)
    until(lambda: not is_alive(mount.path))
    dead = section("transport-endpoint-is-not-connected")
    printed = seen("ls", mount.path).replace(str(mount.path), "/home/me/vbn")
    assert printed.replace("access", "open directory") in dead  # as the kernel still knows the folder, or not
    reason, address = run_vbnfs("status", mount.path).stderr.replace(str(mount.path), "/home/me/vbn").splitlines()
    assert reason in dead
    assert address.endswith("#transport-endpoint-is-not-connected")
