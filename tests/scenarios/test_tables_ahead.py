"""Programs that read all tables of a version, as AllenSDK's constructors do, beside programs that read a few."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts

# In the order in which AllenSDK reads them.
SIZES = {
    "ecephys_sessions": 60_000,
    "behavior_sessions": 600_000,
    "units": 3_000_000,
    "probes": 130_000,
    "channels": 2_000_000,
}
TABLES = {f"project_metadata/{name}.csv": random.Random(name).randbytes(size) for name, size in SIZES.items()}
OLD = TABLES | {"project_metadata/units.csv": b"another one"}
LARGE_SIZES = SIZES | {"units": 24_000_000, "channels": 20_000_000}
LARGE = TABLES | {f"project_metadata/{name}.csv": bytes(LARGE_SIZES[name]) for name in ("units", "channels")}
MOST_OF_A_HEAD = 6_000_000  # what is read ahead of a program that reads 256 KiB
# As `pandas.read_csv(path, nrows=5)` does: it reads 256 KiB, 8 KiB at a time.
READ_HEADS = """
import sys
for path in sys.argv[1:]:
    with open(path, encoding="latin-1", newline="") as table:
        table.read(262_144)
"""
# A table of one read, and then most of a large one.
READ_FAR = """
import sys
with open(sys.argv[1], "rb", buffering=0) as first:
    first.read()
second = open(sys.argv[2], "rb", buffering=0)
for _ in range(18):
    second.read(1_000_000)
assert sys.stdin.read() == ""
"""
READ_ONE_AND_OPEN_ANOTHER = """
import sys
with open(sys.argv[1], "rb", buffering=0) as first:
    while first.read(50_000):
        pass
second = open(sys.argv[2], "rb", buffering=0)
assert sys.stdin.read() == ""
"""


def dataset() -> FakeDataset:
    made = FakeDataset()
    made.publish("0.1.0", OLD)
    made.publish("0.2.0", TABLES)
    return made


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def received(server: FakeS3Server) -> Counter[str]:
    """How many bytes of each table were asked for."""
    found = Counter[str]()
    for request in server.requests:
        if request.kind == "get_range":
            first, last = request.headers["range"].removeprefix("bytes=").split("-")
            found[Path(request.key).stem] += int(last) - int(first) + 1
    return found


def test_the_rest_of_the_tables_comes_when_a_program_reads_one_and_opens_another(
    mounts: Mounts, tmp_path: Path
) -> None:
    """One process reads one table to its end and opens a second one: the other three come, each byte once.

    They are those of the newest version that has both. cat of one brings no other one.
    """
    with FakeS3Server(dataset().store) as server:
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "other")
        run("cat", mount.path / "project_metadata/behavior_sessions.csv")
        mount.umount()
        assert received(server).keys() == {"behavior_sessions"}
        server.forget_requests()
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "cache")
        tables = [mount.path / path for path in TABLES]
        with subprocess.Popen(
            [sys.executable, "-c", READ_ONE_AND_OPEN_ANOTHER, *tables[:2]], stdin=subprocess.PIPE
        ) as process:
            rest = {name: SIZES[name] for name in ("units", "probes", "channels")}
            server.wait_until(lambda server: rest.items() <= received(server).items())
            assert process.stdin is not None
            process.stdin.close()
        assert process.returncode == 0
        for path, data in TABLES.items():
            assert (mount.path / path).read_bytes() == data
        assert received(server) == SIZES


def test_heads_of_tables_bring_no_large_one(mounts: Mounts, tmp_path: Path) -> None:
    """Programs that read the beginnings of all tables, or the small ones whole, bring no large one.

    A small table is read whole by such a program, too. Once it has read 16 MiB of a large one, the others come.
    """
    made = FakeDataset()
    made.publish("0.1.0", LARGE)
    with FakeS3Server(made.store) as server:
        mount = mounts(server.endpoint_url)
        tables = {path.stem: path for path in (mount.path / path for path in LARGE)}
        small = [tables[name] for name in ("ecephys_sessions", "behavior_sessions", "probes")]
        run(sys.executable, "-c", READ_HEADS, *tables.values())
        run("head", "-qc", "4096", *tables.values())
        subprocess.run(["grep", "-l", "no such text", *small], check=False, stdout=subprocess.DEVNULL)
        run("file", *small)
        run("cat", *small)
        mount.umount()
        found = received(server)
        assert max(found["units"], found["channels"]) <= MOST_OF_A_HEAD
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "empty")
        server.forget_requests()
        program = [sys.executable, "-c", READ_FAR, tables["ecephys_sessions"], tables["channels"]]
        with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
            server.wait_until(lambda server: received(server)["units"] == LARGE_SIZES["units"])
            assert process.stdin is not None
            process.stdin.close()
        assert process.returncode == 0
