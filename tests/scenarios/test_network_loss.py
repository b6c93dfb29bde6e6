"""A mount whose network goes: what goes on, what fails and how, what is reported, and how it all resumes."""

import errno
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pytest

from tests.fakes.dataset import serve
from tests.fakes.relay import Relay
from tests.fakes.s3_server import FakeS3Server, Reply, Request, always, cut_after, error, for_kind, held
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until

WARM = "sessions/warm.nwb"
COLD = [f"sessions/cold-{number}.nwb" for number in range(20)]
LAST_ERROR = "user.vbnfs.last_error"
_AT_ONCE_SECONDS = 5  # on a machine that does other things, too
_FOUND_OUT_SECONDS = 14  # 5 until a GET is taken to be stalled, twice 3 for looks at the server, 3 to spare
FILES = {WARM: Pattern(1_000_000)} | {path: Pattern(700_000 + number) for number, path in enumerate(COLD)}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a version with a file that gets read before the network goes, and others that do not."""
    with serve({"0.1.0": FILES}) as server:
        yield server


def errno_of(path: Path) -> int:
    """The errno with which reading a file fails; 0 if it does not."""
    try:
        path.read_bytes()
    except OSError as failure:
        return failure.errno or 0
    return 0


def timed_errno_of(path: Path) -> tuple[int, float]:
    """The errno with which reading a file fails, and after how many seconds."""
    began = time.monotonic()
    return errno_of(path), time.monotonic() - began


def check_all_that_needs_no_network(mount: Mount) -> None:
    """Names, attributes, df, and what is cached: in a thread, so that a wait would be found."""

    def look() -> None:
        names = [name for _, _, names in os.walk(mount.path) for name in names]
        assert {Path(path).name for path in FILES} <= set(names)
        assert (mount.path / COLD[-1]).stat().st_size == len(FILES[COLD[-1]])
        assert os.statvfs(mount.path).f_blocks > 0
        descriptor = os.open(mount.path / WARM, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # not the kernel's pages
        os.close(descriptor)
        assert (mount.path / WARM).read_bytes() == FILES[WARM][:]
        assert os.listxattr(mount.path / WARM)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(look).result(timeout=_AT_ONCE_SECONDS)


@pytest.mark.parametrize("how", ["refused", "swallowed"])
def test_the_network_goes_and_comes_back(mounts: Mounts, server: FakeS3Server, how: str) -> None:
    """Without network what is cached is read, the rest fails soon and says why; when it is back, all is as before."""
    with Relay(server.endpoint_url) as relay:
        mount = mounts(relay.endpoint_url, "--io-timeout", "120")
        assert (mount.path / WARM).read_bytes() == FILES[WARM][:]
        assert mount.status()["is_offline"] is False
        until(lambda: int(os.getxattr(mount.path / WARM, "user.vbnfs.cached")) == len(FILES[WARM]))
        mount.umount()
        mount.mount()  # so that nothing but the disk has it
        if how == "refused":
            relay.cut()
        else:
            relay.darken()

        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(timed_errno_of, mount.path / path) for path in COLD[:4]]
            check_all_that_needs_no_network(mount)
            for number, seconds in [one.result() for one in waiting]:
                assert number == errno.ENETUNREACH
                assert seconds < _FOUND_OUT_SECONDS
        check_all_that_needs_no_network(mount)
        numbers, seconds_of = zip(*(timed_errno_of(mount.path / path) for path in COLD[:10]), strict=True)
        assert set(numbers) == {errno.ENETUNREACH}
        assert median(seconds_of) < 1  # to find out takes two at least; one of them may wait for a processor
        status = mount.status()
        assert status["is_offline"] is True
        for text in (status["last_error"], os.getxattr(mount.path / COLD[0], LAST_ERROR).decode()):
            assert "offline" in text
            assert "connect to the network" in text
            assert "--offline" not in text
        assert LAST_ERROR not in os.listxattr(mount.path / WARM)
        assert "not reached" in run_vbnfs("status", mount.path).stdout

        with Relay(server.endpoint_url, port=relay.port) if how == "refused" else relay as back:
            back.lighten()
            until(lambda: errno_of(mount.path / COLD[0]) == 0)
            assert (mount.path / COLD[0]).read_bytes() == FILES[COLD[0]][:]
            assert LAST_ERROR not in os.listxattr(mount.path / COLD[0])
            status = mount.status()
            assert status["is_offline"] is False
            assert datetime.fromisoformat(status["last_error_time"]) <= datetime.now(UTC)
            assert status["read_bytes_since_error"] >= len(FILES[COLD[0]])
            assert status["received_bytes_since_error"] >= len(FILES[COLD[0]])
            shown = run_vbnfs("status", mount.path).stdout
            assert re.search(r"it was .*, at 20.*; since then .* were read, .* of that from S3\n", shown)


def test_each_failure_of_the_network_has_its_number(mounts: Mounts, server: FakeS3Server) -> None:
    """What docs/troubleshooting.md has by error number: no connection, no answer to this read, a torn reply.

    No connection is ENETUNREACH, also where there is no time to find out more. A mount that is to see a torn reply
    has the time for it to come from a server that is busy.
    """
    with Relay(server.endpoint_url) as relay:
        mount = mounts(relay.endpoint_url, "--io-timeout", "1", "--silence-timeout", "0.5")
        patient = mounts(relay.endpoint_url, "--io-timeout", "5", name="patient")
        for one, file, behaviour, number, words in (
            (mount, COLD[0], held(threading.Event()), errno.ETIMEDOUT, "no byte within 0.5 s on any connection"),
            (patient, COLD[1], cut_after(10), errno.EIO, "end of response with"),
            (
                patient,
                COLD[2],
                always(Reply(raw=b"\x15\x03\x01 no HTTP\r\n\r\n")),
                errno.EIO,
                "speaks no plain HTTP at this port",
            ),
        ):
            server.behaviours[:] = [for_kind("get_range", behaviour)]
            assert (file, errno_of(one.path / file)) == (file, number)
            assert words in os.getxattr(one.path / file, LAST_ERROR).decode()
        relay.cut()
        assert errno_of(mount.path / COLD[4]) == errno.ENETUNREACH
        reason = os.getxattr(mount.path / COLD[4], LAST_ERROR).decode()
        assert "cannot be reached: Connection refused" in reason
        assert "--offline" not in reason


def test_a_mount_without_asking(mounts: Mounts, server: FakeS3Server) -> None:
    """--offline mounts from what is kept, serves what is cached, refuses the rest, and asks nobody for anything."""
    first = mounts(server.endpoint_url)
    assert (first.path / WARM).read_bytes() == FILES[WARM][:]
    first.umount()
    connections = server.connections
    mount = mounts(server.endpoint_url, "--offline", name="offline")
    assert mount.warnings == ""
    check_all_that_needs_no_network(mount)
    assert errno_of(mount.path / COLD[0]) == errno.ENETUNREACH
    status = mount.status()
    assert status["is_offline"] is True
    assert status["last_error"].endswith("; leave --offline out")
    assert status["server_problem"] is None
    assert server.connections == connections


def test_offline_with_nothing_kept(server: FakeS3Server, mounts: Mounts, tmp_path: Path) -> None:
    """--offline cannot show what was never seen: the message says so, with the remedy, and nothing is mounted."""
    (tmp_path / "mnt").mkdir()
    done = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, "-o", "offline", tmp_path / "mnt")
    assert done.returncode == 1
    assert "nothing is kept" in done.stderr
    assert "leave --offline out" in done.stderr
    assert server.connections == 0


def test_many_readers_of_a_server_that_stalls(mounts: Mounts, server: FakeS3Server) -> None:
    """Sixteen readers of a server that sends a little and then nothing are all answered when their time is out."""
    mount = mounts(server.endpoint_url, "--io-timeout", str(limit_seconds := 4))
    gate = threading.Event()
    server.behaviours.append(
        for_kind("get_range", lambda _request, honest: replace(honest, gate=gate, gate_after=1_000))
    )
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(timed_errno_of, mount.path / path) for path in COLD[:16]]
        for number, seconds in [answer.result() for answer in answers]:
            assert number == errno.ETIMEDOUT
            assert seconds < limit_seconds + 8  # much less than without the limit, also on a busy machine
    assert "--io-timeout" in os.getxattr(mount.path / COLD[0], LAST_ERROR).decode()
    gate.set()


def test_a_line_that_is_slow_and_moves(mounts: Mounts, server: FakeS3Server) -> None:
    """A block that takes longer than --io-timeout comes, as long as it gets on; a trickle is not waited for."""
    mount = mounts(server.endpoint_url, "--io-timeout", str(limit_seconds := 4.5))
    rates = {COLD[0]: 50 << 10, COLD[1]: 2 << 10}

    def slowly(request: Request, honest: Reply) -> Reply:
        return replace(honest, bytes_per_second=next(rate for path, rate in rates.items() if path in request.path))

    server.behaviours.append(for_kind("get_range", slowly))
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        slow, trickle = (pool.submit(start_of, mount.path / path) for path in rates)
        with pytest.raises(TimeoutError):
            trickle.result()
        assert slow.result() == FILES[COLD[0]][:4096]
    assert time.monotonic() - began > limit_seconds
    assert "no answer within 4.5 s (--io-timeout)" in os.getxattr(mount.path / COLD[1], LAST_ERROR).decode()


def start_of(path: Path) -> bytes:
    """The first 4 KiB of a file, and what comes with them: the block."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(file.fileno(), 4096, 0)


def test_a_file_tells_its_last_failure(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """After a failure the file (until it is read well), the status and the log say what happened, and what to do.

    The file's attribute is answered and not listed: a copy of the file has not failed.
    """
    mount = mounts(server.endpoint_url)
    path, other = mount.path / COLD[0], mount.path / COLD[1]
    server.behaviours.append(for_kind("get_range", always(error(403, "AccessDenied"))))
    assert errno_of(path) == errno.EACCES
    reason = os.getxattr(path, LAST_ERROR).decode()
    assert "HTTP 403 AccessDenied" in reason
    assert "check --bucket" in reason
    assert mount.status()["last_error"] == reason
    assert reason in [json.loads(line).get("reason") for line in (tmp_path / "vbnfs.log").read_text().splitlines()]
    assert LAST_ERROR not in os.listxattr(path)
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(other, LAST_ERROR)
    server.behaviours.clear()
    assert path.read_bytes() == FILES[COLD[0]][:]
    with pytest.raises(OSError) as caught:  # noqa: PT011
        os.getxattr(path, LAST_ERROR)
    assert caught.value.errno == errno.ENODATA
