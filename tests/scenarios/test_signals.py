"""Programs that get signals while the mount waits for S3: what breaks off, what does not, and what ends at once."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, always, error, for_kind, held
from tests.fixtures_mount import Mounts

MIB = 1 << 20
SESSIONS = [f"ecephys_sessions/ecephys_session_{number}.nwb" for number in range(1, 7)]
DATA = {name: random.Random(name).randbytes(3 * MIB) for name in SESSIONS}
TABLES = {f"project_metadata/{name}.csv": name.encode() * 100 for name in ("units", "channels")}
PATIENT = ("--io-timeout", "300", "--silence-timeout", "300")

# Reads by the C library, which does not call again as Python does. argv: seconds of the timer, paths.
TIMER = """
import ctypes, errno, hashlib, json, mmap, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.read.argtypes, libc.read.restype = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t], ctypes.c_ssize_t
signals = []
signal.signal(signal.SIGALRM, lambda *_: signals.append(1))
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]), float(sys.argv[1]))
failures, sums = [], []

def called(name, *arguments):
    done = getattr(libc, name)(*arguments)
    if done < 0:
        failures.append([name, errno.errorcode[ctypes.get_errno()]])
    return done

def read(path):
    hasher, buffer = hashlib.blake2b(), ctypes.create_string_buffer(1 << 18)
    descriptor = called("open", os.fsencode(path), os.O_RDONLY)
    while (length := called("read", descriptor, buffer, len(buffer))) > 0:
        hasher.update(buffer.raw[:length])
    os.close(descriptor)
    return hasher.hexdigest()

def mapped(path, advice):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        view.madvise(advice)
        return hashlib.blake2b(view).hexdigest() if advice == mmap.MADV_SEQUENTIAL else [
            hashlib.blake2b(view[start : start + 4096]).hexdigest() for start in range(0, len(view), 1 << 20)
        ]

for number, is_interrupted in enumerate((False, True)):  # with SA_RESTART, and without
    signal.siginterrupt(signal.SIGALRM, is_interrupted)
    ordinary, sequential, at_random, table = sys.argv[2 + number :: 2]
    sums += [read(ordinary), mapped(sequential, mmap.MADV_SEQUENTIAL), mapped(at_random, mmap.MADV_RANDOM)]
    called("access", os.fsencode(table), os.R_OK)
    sums.append(read(table))
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps({"signals": len(signals), "failures": failures, "sums": sums}))
"""

# argv: what to do, and a path. A handler of its own, as Python, R and MATLAB have one.
WAITS: Final = """
import mmap, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL if sys.argv[1].endswith("default") else signal.default_int_handler)
print(flush=True)
try:
    if sys.argv[1].startswith("stat"):
        os.stat(sys.argv[2])
    elif sys.argv[1].startswith("open"):
        os.open(sys.argv[2], os.O_RDONLY)
    elif sys.argv[1].startswith("read"):
        os.read(os.open(sys.argv[2], os.O_RDONLY), 4096)
    else:
        view = mmap.mmap(os.open(sys.argv[2], os.O_RDONLY), 0, access=mmap.ACCESS_READ)
        view.madvise(mmap.MADV_RANDOM)
        view[:1]
    print("done")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of some sessions and tables that lists no versions, and so no sizes."""
    with serve({"0.1.0": {**DATA, **TABLES}}) as server:
        server.behaviours.append(for_kind("list_versions", always(error(403, "AccessDenied"))))
        yield server


def sum_of(data: bytes) -> str:
    return hashlib.blake2b(data).hexdigest()


@contextmanager
def waiting(
    server: FakeS3Server, kind: str, what: str, path: Path
) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
    """A program that waits for a request of a kind, which is held until the event is set, or this is left."""
    gate = threading.Event()
    behaviour = for_kind(kind, held(gate))
    server.behaviours.append(behaviour)
    server.forget_requests()
    command = [sys.executable, "-c", WAITS, what, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            server.wait_until(lambda server: server.count(kind) > 0, seconds=30)
            yield process, gate
        finally:
            gate.set()
            server.behaviours.remove(behaviour)


@pytest.mark.usefixtures("engine")
def test_timer_signals_break_nothing(mounts: Mounts, server: FakeS3Server) -> None:
    """SIGALRM every 10 ms while files and sizes come: no call fails, and no byte is wrong.

    By the C library's read(2) and open(2), in mappings, and of sizes that wait for HEAD; with SA_RESTART and without.
    """
    server.behaviours.append(lambda request, honest: replace(honest, pause_seconds=0.05) if request.key else None)
    mount = mounts(server.endpoint_url)
    names = [*SESSIONS, *TABLES]
    command = [sys.executable, "-c", TIMER, "0.01", *(mount.path / name for name in names)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True, timeout=100).stdout)
    assert found["failures"] == []
    assert found["signals"] > 20
    for number, (ordinary, sequential, at_random, table) in enumerate((names[::2], names[1::2])):
        pages = [sum_of(DATA[at_random][start : start + 4096]) for start in range(0, 3 * MIB, MIB)]
        sums = [sum_of(DATA[ordinary]), sum_of(DATA[sequential]), pages, sum_of(TABLES[table])]
        assert found["sums"][4 * number : 4 * number + 4] == sums
    assert mount.status()["last_error"] is None


def test_what_ctrl_c_ends(mounts: Mounts, server: FakeS3Server) -> None:
    """While S3 does not answer: a program with a handler gets Ctrl-C at once where a size is waited for.

    One without a handler ends at once whatever it waits for, and so does kill -9. What another program asks for then
    is answered as ever. With a handler, one that waits for a page gets Ctrl-C when that is there, and no sooner.
    """
    mount = mounts(server.endpoint_url, *PATIENT)
    path = mount.path / SESSIONS[0]
    for what, number, said, status in [
        ("stat", signal.SIGINT, "interrupted\n", 0),
        ("open", signal.SIGINT, "interrupted\n", 0),
        ("stat default", signal.SIGINT, "", -signal.SIGINT),
        ("stat", signal.SIGTERM, "", -signal.SIGTERM),
        ("stat", signal.SIGKILL, "", -signal.SIGKILL),
    ]:
        with waiting(server, "head", what, path) as (process, _):
            process.send_signal(number)
            assert process.communicate(timeout=60)[0] == said, what
            assert process.returncode == status
    assert path.stat().st_size == len(DATA[SESSIONS[0]])
    for name, what, number in [
        (SESSIONS[0], "read", signal.SIGKILL),
        (SESSIONS[1], "read default", signal.SIGINT),
        (SESSIONS[2], "map", signal.SIGKILL),
        (SESSIONS[3], "map default", signal.SIGINT),
    ]:
        with waiting(server, "get_range", what, mount.path / name) as (process, _):
            process.send_signal(number)
            process.communicate(timeout=60)
            assert process.returncode == -number
        assert (mount.path / name).read_bytes() == DATA[name]
    for name, what in ((SESSIONS[4], "read"), (SESSIONS[5], "map")):
        with waiting(server, "get_range", what, mount.path / name) as (process, gate):
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            gate.set()
            assert process.communicate(timeout=60)[0] == "interrupted\n"
    assert mount.status()["last_error"] is None
