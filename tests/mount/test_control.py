"""The control socket of a mount, both ends, on real sockets."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from vbnfs.errors import MountError
from vbnfs.mount import control
from vbnfs.mount.mountpoint import MountEntry

DEVICE = "0:99999"  # of no mount


@pytest.fixture
def entry() -> MountEntry:
    """A mount of ours, as mountinfo would tell it."""
    return MountEntry(Path("/mnt/vbn"), DEVICE, "fuse.vbnfs", "dataset", os.getuid())


async def hello() -> Mapping[str, Any]:
    return {"hello": "world"}


async def broken() -> Mapping[str, Any]:
    raise ValueError("it broke")


@asynccontextmanager
async def served(entry: MountEntry) -> AsyncIterator[Path]:
    """A control socket with two commands, while entered."""
    path = control.socket_path(entry.owner, entry.device)
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, path, {"hello": hello, "broken": broken})
        yield path
        nursery.cancel_scope.cancel()


async def ask(entry: MountEntry, command: str) -> dict[str, Any]:
    return await trio.to_thread.run_sync(control.ask, entry, command)


async def test_question_and_answer(entry: MountEntry) -> None:
    """A command's answer comes back; the socket is its owner's alone, and is gone at the end."""
    async with served(entry) as path:
        assert await ask(entry, "hello") == {"hello": "world"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_commands_that_fail(entry: MountEntry) -> None:
    """A command that fails, and one that there is not, are told; the next one is answered all the same."""
    async with served(entry):
        with pytest.raises(MountError, match="it broke"):
            await ask(entry, "broken")
        with pytest.raises(MountError, match="commands are: broken, hello"):
            await ask(entry, "nonsense")
        assert await ask(entry, "hello") == {"hello": "world"}


@pytest.mark.parametrize(
    "line", [b"\n", b"not json\n", b"[]\n", b'{"command": []}\n', b"[" * 60_000 + b"\n", b"x" * 70_000]
)
async def test_nonsense_on_the_socket(entry: MountEntry, line: bytes) -> None:
    """Whatever is sent, an error is the answer, and the socket goes on."""
    async with served(entry) as path:
        stream = await trio.open_unix_socket(str(path))
        async with stream:
            await stream.send_all(line)
            assert b'"ok": false' in await stream.receive_some()
        assert await ask(entry, "hello") == {"hello": "world"}


async def test_asker_that_goes_away(entry: MountEntry) -> None:
    """One who leaves without a question or without the answer does no harm."""
    async with served(entry) as path:
        for line in (b"", b'{"command": "hello"}\n'):
            stream = await trio.open_unix_socket(str(path))
            if line:
                await stream.send_all(line)
            await stream.aclose()
        assert await ask(entry, "hello") == {"hello": "world"}


def test_daemon_that_is_gone(entry: MountEntry) -> None:
    """Without a socket the remedy is told, if the mount is dead; else that only the socket is gone."""
    with pytest.raises(MountError, match=r"its control socket .* is gone"):
        control.ask(replace(entry, mountpoint=Path("/")), "hello")


ASK_AS_NOBODY = """
import os, sys
from pathlib import Path
from vbnfs.errors import MountError
from vbnfs.mount import control
from vbnfs.mount.mountpoint import MountEntry, is_ours
control.runtime_directory = lambda owner: Path(sys.argv[1])
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
entry = MountEntry(Path("/mnt/vbn"), "0:99999", "fuse.vbnfs", "dataset", 0)
try:
    control.ask(entry, "hello")
except MountError as error:
    print(is_ours(entry), error)
"""


def test_mount_of_somebody_else(tmp_path: Path) -> None:
    """Who has not mounted it is told who can ask, and is not shown it unasked."""
    (tmp_path / "closed").mkdir(mode=0o000)
    command = [sys.executable, "-c", ASK_AS_NOBODY, str(tmp_path / "closed")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False /mnt/vbn: only user 0, who mounted it, and root can ask it\n"


def test_answer_that_is_none(entry: MountEntry) -> None:
    """A socket that closes without an answer is told as such."""
    path = control.make_runtime_directory() / control.socket_path(entry.owner, entry.device).name
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.shutdown(socket.SHUT_RDWR)
        with pytest.raises(MountError, match="/mnt/vbn"):
            control.ask(entry, "hello")
    path.unlink()


def test_runtime_directory_of_others_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder for sockets that others can write, a link and a file are refused."""
    place = tmp_path / "vbnfs"
    monkeypatch.setattr(control, "runtime_directory", lambda owner: place)
    assert control.make_runtime_directory() == place
    place.chmod(0o755)
    with pytest.raises(MountError, match="0700"):
        control.make_runtime_directory()
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(MountError, match="0700"):
        control.make_runtime_directory()
    place.unlink()
    place.touch()
    with pytest.raises(MountError):
        control.make_runtime_directory()


def test_places_of_sockets() -> None:
    """Root's sockets are in /run, those of users without a place there below /tmp, each by device."""
    assert control.socket_path(0, "0:45") == Path("/run/vbnfs/0-45.sock")
    assert control.socket_path(4_000_000, "0:45") == Path("/tmp/vbnfs-4000000/0-45.sock")


async def test_a_socket_that_took_its_place_stays(entry: MountEntry) -> None:
    """A daemon that ends late does not remove the socket of the next one, whose mount has the same number."""
    async with served(entry) as path:
        path.unlink()
        path.touch()
    assert path.exists()
    path.unlink()


async def test_a_socket_is_found_when_its_user_has_logged_in_since(
    entry: MountEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mount from before /run/user/UID was there is asked where its socket was made, a later one there."""
    session = tmp_path / "session"
    monkeypatch.setattr(control, "_places", lambda owner: [session / "vbnfs", tmp_path / "vbnfs"])
    async with served(entry) as path:
        assert path.parent == tmp_path / "vbnfs"
        session.mkdir()
        assert await ask(entry, "hello") == {"hello": "world"}
    async with served(replace(entry, device="0:99997")) as path:
        assert path.parent == session / "vbnfs"
        assert await ask(replace(entry, device="0:99997"), "hello") == {"hello": "world"}
