"""The origin of the measurements: its configuration, and that vbnfs gets from it what is there."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.speed.files import BUCKET, LFP, MORE, PROJECT, SESSION, TABLES, VERSION, Files, manifest, stored
from benchmarks.speed.origin import (
    PLAIN,
    PROFILES,
    TLS,
    Listener,
    Origin,
    Traffic,
    count_traffic,
    lua_catalog,
    nginx_config,
)
from tests.fakes.certificates import Certificate
from tests.fixtures_mount import Mounts

LAN, NEAR, _ = PROFILES
NAMES = (SESSION, LFP, *TABLES.values(), *MORE)
CERTIFICATE = Certificate(Path("/place/certificate.pem"), Path("/place/key.pem"))


def test_config_has_a_server_for_each_listener() -> None:
    """A port each, of loopback, with its delay and rate; TLS where it is asked for."""
    listeners = [Listener(LAN, PLAIN, 8001), Listener(NEAR, TLS, 8002)]
    config = nginx_config(Path("/place"), listeners, CERTIFICATE, as_root=False)
    plain, tls = [line for line in config.splitlines() if "listen" in line]
    assert "127.0.0.1:8001 " in plain
    assert "ssl" not in plain
    assert "/place/objects" in plain
    assert "127.0.0.1:8002 ssl" in tls
    assert "answer(0.04, 60000000)" in tls


def test_config_keeps_everything_in_its_folder() -> None:
    """No file that nginx writes stands elsewhere; only root may say whose processes are."""
    config = nginx_config(Path("/place"), [], CERTIFICATE, as_root=False)
    for directive in (
        "pid",
        "error_log",
        "access_log",
        "proxy_temp_path",
        "client_body_temp_path",
        "ssl_certificate",
    ):
        assert f"{directive} /place/" in config
    assert "user root;" not in config
    assert "user root;" in nginx_config(Path("/place"), [], CERTIFICATE, as_root=True)


def test_catalog_is_sorted_by_key(tmp_path: Path) -> None:
    """A listing's order is that of the keys."""
    (tmp_path / "file").write_bytes(b"12345")
    text = lua_catalog([stored("b/2", tmp_path / "file"), stored("a/1", tmp_path / "file")])
    assert text.index('key = "a/1"') < text.index('key = "b/2"')
    assert "size = 5" in text


def test_traffic_is_counted_by_port() -> None:
    """Requests of every status count; bytes are those of bodies."""
    counts = count_traffic("8001 206 100\n8002 200 7\n8001 404 5\n")
    assert counts[8001, "requests"] == 2
    assert counts[8001, "bytes"] == 105
    assert Traffic(5, 100) - Traffic(2, 40) == Traffic(3, 60)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Small files under the names of the real ones, as different as can be."""
    place = tmp_path / "files"
    for number, name in enumerate(NAMES):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(hashlib.shake_128(name.encode()).digest(1_000_000 + number))
    (place / "manifest.json").write_text(manifest(place))
    objects = [stored(f"{PROJECT}/{name}", place / name) for name in NAMES]
    key = f"{PROJECT}/manifests/{PROJECT}_project_manifest_v{VERSION}.json"
    return Files(place, (*objects, stored(key, place / "manifest.json")))


@pytest.fixture
def origin(tmp_path: Path, files: Files) -> Iterator[Origin]:
    """It runs, and serves these files."""
    (tmp_path / "origin").mkdir()
    with Origin(tmp_path / "origin", files) as origin:
        yield origin


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["lan", "near"])
def test_vbnfs_reads_from_the_origin_over_tls(mounts: Mounts, files: Files, origin: Origin, profile: str) -> None:
    """Listed, read and compared: every file, whole, whether nginx or the Lua module sends it."""
    listener = origin.listeners[profile, TLS]
    mount = mounts(listener.url, "--ca-bundle", origin.certificate.path, "--cache-dir", files.directory / profile)
    for name in NAMES:
        assert (mount.path / name).stat().st_size == files.size_bytes(name)
        assert (mount.path / name).read_bytes() == files.path(name).read_bytes()
    metrics = mount.status()["metrics"]
    assert metrics["failed_requests"] == 0
    mount.umount()
    assert (
        origin.traffic(listener).body_bytes
        > metrics["received_bytes"]
        == sum(files.size_bytes(name) for name in NAMES)
    )


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["lan", "near"])
@pytest.mark.parametrize(
    ("query", "status"), [("", 206), ("?versionId=another", 404)], ids=["the version", "another version"]
)
def test_origin_answers_for_the_version_that_is_asked_for(
    origin: Origin, files: Files, profile: str, query: str, status: int
) -> None:
    """A range is 206 with the version's id; an id that is not known is an error, not other bytes."""
    url = f"{origin.listeners[profile, PLAIN].url}/{BUCKET}/{PROJECT}/{LFP}{query}"
    command = ["curl", "--silent", "--include", "--range", "5-9", url]
    head, _, body = subprocess.run(command, check=True, capture_output=True).stdout.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    if status == 206:
        assert body == files.path(LFP).read_bytes()[5:10]
        assert f"Content-Range: bytes 5-9/{files.size_bytes(LFP)}".lower().encode() in head.lower()
        assert b"x-amz-version-id: " + stored(f"{PROJECT}/{LFP}", files.path(LFP)).version_id.encode() in head


@pytest.mark.slow
def test_origin_hears_of_a_request_while_it_is_busy(tmp_path: Path) -> None:
    """Sixteen take as much as they get; a small request does not wait for their end."""
    long, short = tmp_path / "long", tmp_path / "short"
    short.write_bytes(b"short")
    with long.open("wb") as file:
        file.truncate(600_000_000)  # sparse: as fast as can be
    (tmp_path / "origin").mkdir()
    with Origin(tmp_path / "origin", Files(tmp_path, (stored("long", long), stored("short", short)))) as origin:
        url = f"{origin.listeners['near', PLAIN].url}/{BUCKET}"
        bulk = [subprocess.Popen(["curl", "--silent", "--output", "/dev/null", f"{url}/long"]) for _ in range(16)]
        try:
            for _ in range(5):
                answer = subprocess.run(["curl", "--silent", f"{url}/short"], check=True, capture_output=True)
                assert answer.stdout == b"short"
            assert all(reader.poll() is None for reader in bulk)
        finally:
            for reader in bulk:
                reader.kill()
                reader.wait()
