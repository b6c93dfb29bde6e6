"""Programs that read all tables of a version, as AllenSDK's constructors do, beside programs that read a few."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts
from vbnfs.blocks import BLOCK_BYTES

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

    They are those of the newest version that has both. cat of one brings no other one. head of all, and file of small
    ones, bring no large one.
    """
    with FakeS3Server(dataset().store) as server:
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "other")
        tables = [mount.path / path for path in TABLES]
        run("cat", tables[0])
        run("head", "-c", "4096", tables[2])
        run("head", "-qc", "4096", *tables)
        run("file", tables[0], tables[1], tables[3])  # reads up to 7 MiB of each
        run("cat", tables[1])
        mount.umount()
        assert received(server)["units"] + received(server)["channels"] <= 8 * BLOCK_BYTES
        server.forget_requests()
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "cache")
        tables = [mount.path / path for path in TABLES]
        program = [sys.executable, "-c", READ_ONE_AND_OPEN_ANOTHER, *tables[:2]]
        with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
            rest = {name: SIZES[name] for name in ("units", "probes", "channels")}
            server.wait_until(lambda server: rest.items() <= received(server).items())
            assert process.stdin is not None
            process.stdin.close()
        assert process.returncode == 0
        for path, data in TABLES.items():
            assert (mount.path / path).read_bytes() == data
        assert received(server) == SIZES
