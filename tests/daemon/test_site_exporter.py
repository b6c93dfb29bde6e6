"""What Prometheus gets of a site cache, by datagrams that a test sends."""

import re
import socket
from pathlib import Path

import pytest
import structlog
import trio

from tests.daemon.test_metrics_port import asked
from tests.ports import free_port
from tests.test_documents import ROOT
from vbnfs.daemon.site_exporter import SiteCollector, export, scan
from vbnfs.daemon.site_log import SiteCounts
from vbnfs.errors import MountError

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answer(port: int, part: bytes) -> bytes:
    """The metrics, once they have a part."""
    while True:
        await trio.lowlevel.checkpoint()
        try:
            found = await asked(port, REQUEST)
        except OSError:  # it does not listen yet
            continue
        if part in found:
            return found


async def test_datagrams_are_counted(tmp_path: Path) -> None:
    """Log lines and requests of Prometheus come to one address; what is kept is counted where it lies."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "slice").write_bytes(bytes(1000))
    port = free_port()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(export, f"127.0.0.1:{port}", tmp_path)
        with trio.fail_after(60):
            await answer(port, b"kept_bytes 1000.0")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for status in (b"206 HIT -", b"404 MISS 300"):
                    sender.sendto(b"<190>x vbnfs: 1 1 500 0.1 90 " + status, ("127.0.0.1", port))
            found = await answer(port, b"requests_total 2.0")
        assert b'vbnfs_site_cache_slice_seconds_count{cache="hit"} 1.0' in found
        assert b'vbnfs_site_cache_failures_total{status="404"} 1.0' in found
        nursery.cancel_scope.cancel()


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """What cannot be counted is left out, and logged; the rest is answered."""
    port = free_port()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(export, f"127.0.0.1:{port}", tmp_path / "none")
            with trio.fail_after(60):
                found = await answer(port, b"requests_total 0.0")
                while not logs:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert b"kept_bytes" not in found
    assert logs[0]["reason"] == "No such file or directory"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_an_address_that_is_taken(kind: socket.SocketKind, tmp_path: Path) -> None:
    """It says which option is to be another one."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(MountError, match=f"{address}: Address already in use.*; choose another --listen"):
            await export(address, tmp_path)


def test_scanning(tmp_path: Path) -> None:
    """Files of all folders; a folder that is not there is an error."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("one", "a/two", "a/b/three"):
        (tmp_path / name).write_bytes(bytes(10))
    assert scan(tmp_path) == (3, 30)
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "none")


def test_the_documents_name_them() -> None:
    """docs/site-cache.md explains each metric."""
    text = (ROOT / "docs" / "site-cache.md").read_text(encoding="utf-8")
    named = set(re.findall(r"vbnfs_site_cache_[a-z_]+", text))
    assert {family.name for family in SiteCollector(SiteCounts(), (0, 0)).collect()} <= {
        name.removesuffix("_total") for name in named
    }
