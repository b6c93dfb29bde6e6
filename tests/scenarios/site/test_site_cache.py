"""Real mounts that ask site caches first: real nginx, which may be away, wrong, or another one for each file."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.daemon.test_metrics_port import free_port
from tests.fakes.dataset import serve
from tests.fakes.faults import Damaged
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs
from tests.scenarios.site.proxies import ENGINES, Proxy, Start, asked_ranges, running_nginx
from tests.waiting import until
from vbnfs.blocks import BLOCK_BYTES

pytestmark = pytest.mark.slow
STALLED_SECONDS: Final = 3.5  # after 2 s S3 or a mirror would be asked once more

FILES: Final = {f"sessions/{name}.nwb": Pattern(3_000_001 + name, seed=name) for name in range(6)}
FIRST: Final = "sessions/0.nwb"
PLAIN: Final = {name: data[: len(data)] for name, data in FILES.items()}


@pytest.fixture(params=ENGINES)
def start(request: pytest.FixtureRequest) -> Start:
    """What starts a proxy, of each kind."""
    return ENGINES[request.param]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """The dataset's bucket."""
    with serve({"0.1.0": FILES}) as server:
        yield server


def url(nginx: Proxy) -> str:
    return f"http://127.0.0.1:{nginx.port}"


def is_verified(mount: Mount, name: str) -> bool:
    return os.getxattr(mount.path / name, "user.vbnfs.verified").startswith(b"blake2b:")


def test_two_machines_fetch_each_byte_once(
    start: Start, mounts: Mounts, server: FakeS3Server, tmp_path: Path
) -> None:
    """What one machine has read comes from the site cache to another; it is the dataset's when it is hashed."""
    with start(tmp_path, f"--endpoint-url={server.endpoint_url}") as nginx:
        for machine in ("a", "b"):
            mount = mounts(
                server.endpoint_url,
                "--site-cache",
                url(nginx),
                "--cache-dir",
                tmp_path / f"cache-{machine}",
                name=machine,
            )
            assert {name: (mount.path / name).read_bytes() for name in FILES} == PLAIN
            for name in FILES:
                until(lambda mount=mount, name=name: is_verified(mount, name))
            [found] = mount.status()["site_cache"]
            assert (found["url"], found["problem"], found["is_asked"]) == (url(nginx), None, True)
            assert found["blocks"] == mount.status()["metrics"]["mirror_blocks"] >= 6 * 12
            assert f"site cache  {url(nginx)}  " in run_vbnfs("status", mount.path).stdout
            mount.umount()
    asked = asked_ranges(server)
    slices = 6 * 3  # of 1 MiB
    assert len(asked) == slices if start is ENGINES["nginx"] else slices <= len(asked) <= 2 * slices


def test_a_site_cache_that_goes_and_returns(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """While it is away S3 is asked, status says so, and no read fails; then it is asked again by itself.

    That it was away is said until something came from it.
    """
    port = free_port()
    mount = mounts(server.endpoint_url, "--site-cache", f"http://127.0.0.1:{port}")
    first, *names = FILES
    assert (mount.path / first).read_bytes() == PLAIN[first]
    [found] = mount.status()["site_cache"]
    assert found["problem"] is not None
    assert "failed last: " in run_vbnfs("status", mount.path).stdout
    with running_nginx(tmp_path, f"--endpoint-url={server.endpoint_url}", port=port):
        places = ((name, at) for at in range(11 * BLOCK_BYTES, 0, -BLOCK_BYTES) for name in names)

        def has_served() -> bool:
            name, at = next(places)  # of which nothing was read
            with (mount.path / name).open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                assert os.pread(file.fileno(), 10, at) == PLAIN[name][at : at + 10]
            return "failed last: " not in run_vbnfs("status", mount.path).stdout

        until(has_served, seconds=60)
        assert mount.status()["site_cache"][0]["blocks"] > 0


@pytest.mark.parametrize("options", [["--allow=10.9.0.0/16"], ["--bucket=another"]])
def test_one_that_does_not_serve_this_machine(
    mounts: Mounts, server: FakeS3Server, tmp_path: Path, options: list[str]
) -> None:
    """A site cache for other machines, or for another bucket: S3 is asked, and status and doctor say it."""
    with running_nginx(tmp_path, f"--endpoint-url={server.endpoint_url}", *options) as nginx:
        mount = mounts(server.endpoint_url, "--site-cache", url(nginx))
        assert (mount.path / FIRST).read_bytes() == PLAIN[FIRST]
        status = run_vbnfs("status", mount.path).stdout
        assert f"site cache  {url(nginx)}  0 blocks, failed last: " in status
        doctor = run_vbnfs("doctor", "--no-throughput", *mount.options)
        assert doctor.returncode == 1
        assert f"{url(nginx)} does not serve this machine: " in doctor.stdout
        assert "check --allow and --bucket of 'vbnfs site-cache'" in doctor.stdout


def test_a_slow_one_is_asked_once(mounts: Mounts, server: FakeS3Server) -> None:
    """What a site cache lacks comes when S3 has sent it: neither it nor S3 is asked for that meanwhile."""
    gate, several = threading.Event(), list(FILES)
    with FakeS3Server(server.store) as slow, ThreadPoolExecutor(1) as pool:
        mount = mounts(server.endpoint_url, "--site-cache", slow.endpoint_url)
        assert (mount.path / several[0]).read_bytes() == PLAIN[several[0]]
        slow.behaviours.append(for_kind("get_range", held(gate)))
        reading = pool.submit((mount.path / several[1]).read_bytes)
        with pytest.raises(TimeoutError):
            reading.result(timeout=STALLED_SECONDS)
        asked = [(each.key, each.headers["range"]) for each in slow.requests if each.kind == "get_range"]
        assert len(set(asked)) == len(asked) > 0
        gate.set()
        assert reading.result() == PLAIN[several[1]]
    metrics = mount.status()["metrics"]
    assert (server.count("get_range"), metrics["hedged_requests"], metrics["failed_answers"]) == (0, 0, 0)


def test_one_that_trickles(mounts: Mounts, server: FakeS3Server) -> None:
    """What brings some bytes a second fails no read: S3 is asked while there is time."""
    with FakeS3Server(server.store) as trickling:
        trickling.behaviours.append(for_kind("get_range", lambda _, honest: replace(honest, bytes_per_second=20.0)))
        mount = mounts(server.endpoint_url, "--site-cache", trickling.endpoint_url, "--io-timeout", "12")
        assert (mount.path / FIRST).read_bytes() == PLAIN[FIRST]
    assert mount.status()["metrics"]["failed_answers"] == 0
    assert server.count("get_range") > 0


def test_killed_in_the_middle(start: Start, mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A site cache that dies while a file is read costs no failed read and no wrong byte."""
    with start(tmp_path, f"--endpoint-url={server.endpoint_url}") as nginx:
        mount = mounts(server.endpoint_url, "--site-cache", url(nginx))
        with (mount.path / FIRST).open("rb", buffering=0) as file:
            begun = file.read(100_000)
            nginx.kill()
            rest = b""
            while part := file.read(1 << 20):
                rest += part
    assert begun + rest == PLAIN[FIRST]
    assert mount.status()["metrics"]["failed_answers"] == 0


def test_several_share_the_files(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Each file has one of the site caches; without that one it comes from the other, and S3 sends a slice once."""
    with ExitStack() as stack:
        (tmp_path / "1").mkdir()
        (tmp_path / "2").mkdir()
        options = f"--endpoint-url={server.endpoint_url}"
        running = [stack.enter_context(running_nginx(tmp_path / name, options)) for name in ("1", "2")]
        both = ",".join(map(url, running))
        came = []
        for machine in ("a", "b"):
            mount = mounts(
                server.endpoint_url, "--site-cache", both, "--cache-dir", tmp_path / f"cache-{machine}", name=machine
            )
            assert {name: (mount.path / name).read_bytes() for name in FILES} == PLAIN
            came.append([found["blocks"] for found in mount.status()["site_cache"]])
            mount.umount()
        assert came[0] == came[1]  # how the files are divided, the servers' names say: their ports, here
        assert sum(came[0]) >= 6 * 12
        assert len(asked_ranges(server)) == 6 * 3
        killed = came[0].index(max(came[0]))
        running[killed].kill()
        mount = mounts(server.endpoint_url, "--site-cache", both, "--cache-dir", tmp_path / "cache-c", name="c")
        assert {name: (mount.path / name).read_bytes() for name in FILES} == PLAIN
        assert mount.status()["metrics"]["failed_answers"] == 0
        moved = max(came[0]) // 12  # files, of 12 blocks each
        assert len(asked_ranges(server)) == (6 + moved) * 3
        assert mount.status()["site_cache"][1 - killed]["blocks"] == 6 * 12


def test_several_that_bring_nothing(mounts: Mounts, server: FakeS3Server) -> None:
    """Site caches that are there and bring nothing fail no read, however many they are."""
    gate = threading.Event()
    with ExitStack() as stack:
        silent = [stack.enter_context(FakeS3Server(server.store)) for _ in range(3)]
        stack.callback(gate.set)
        for one in silent:
            one.behaviours.append(for_kind("get_range", held(gate)))
        urls = ",".join(one.endpoint_url for one in silent)
        mount = mounts(server.endpoint_url, "--site-cache", urls, "--io-timeout", "8")
        assert (mount.path / FIRST).read_bytes() == PLAIN[FIRST]
    assert mount.status()["metrics"]["failed_answers"] == 0
    assert server.count("get_range") > 0


def test_a_site_cache_that_is_wrong(start: Start, mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """With digests a wrong block is caught as it comes; without them when the file is whole, which then is mended."""
    with serve({"0.1.0": FILES}) as other, start(tmp_path, f"--endpoint-url={other.endpoint_url}") as nginx:
        other.behaviours.append(Damaged(FIRST, at=1_000_000, times=1_000))
        mount = mounts(server.endpoint_url, "--site-cache", url(nginx))
        (mount.path / FIRST).read_bytes()
        until(lambda: mount.status()["metrics"]["mismatched_files"] == 1)
        until(lambda: (mount.path / FIRST).read_bytes() == PLAIN[FIRST])
        until(lambda: is_verified(mount, FIRST))
        digests = tmp_path / "digests"
        assert run_vbnfs("digests", "export", digests, *mount.options).returncode == 0
        mount.umount()
        cache = ["--cache-dir", str(tmp_path / "fresh-cache")]
        assert run_vbnfs("digests", "import", digests, *cache).returncode == 0
        fresh = mounts(server.endpoint_url, "--site-cache", url(nginx), *cache, name="fresh")
        assert (fresh.path / FIRST).read_bytes() == PLAIN[FIRST]
        assert fresh.status()["metrics"]["wrong_blocks"] >= 1
