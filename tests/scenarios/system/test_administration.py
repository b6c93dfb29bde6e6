"""docs/administration.md does what it says: a group's mount, rotating the log, changing over to another daemon."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import until
from tests.scenarios.system.namespace import REPOSITORY, USER, Namespace
from vbnfs.host.processes import has_exited

TEXT = (REPOSITORY / "docs" / "administration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CHANGE_OVER = re.compile(r"vbnfs (u?mount.*?) /mnt/vbn(.*?)(?: +#.*)?$", re.MULTILINE)
UNITS = "project_metadata/units.csv"
SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
SESSION_BYTES = Pattern(3_000_001)
VBN = "/mnt/lab/vbn"
STRANGER = ("setpriv", "--reuid", "4712", "--regid", "4712", "--clear-groups", "--")


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {UNITS: b"unit_id\n1\n", SESSION: SESSION_BYTES}}) as server:
        yield server


def block_with(words: str) -> str:
    """The document's block with these words."""
    [block] = [block for block in BLOCKS if words in block]
    return block


def daemon(namespace: Namespace) -> int:
    pid: int = json.loads(namespace.vbnfs("status", "--json", VBN).stdout)["pid"]
    return pid


def test_a_mount_for_a_group(server: FakeS3Server) -> None:
    """A group reads, others do not get there. The log is rotated by copying. A new daemon takes over from an old one.

    A program that has a file open reads on from the old daemon, which ends when that is closed.
    """
    settings = f"endpoint_url={server.endpoint_url},cache_dir=/mnt/cache,log_file=/mnt/vbnfs.log"
    with Namespace() as namespace:
        assert namespace.vbnfs("install-helper").returncode == 0
        script = block_with("chmod 750").replace("/srv/lab", "/mnt/lab").replace("root:lab", f"root:{USER}")
        namespace.output("sh", "-euc", script.replace("cache_dir=/var/cache/vbnfs", settings))
        assert namespace.output("cat", f"{VBN}/{UNITS}", user=USER) == "unit_id\n1\n"
        refused = namespace.run(*STRANGER, "ls", VBN)
        assert (refused.returncode, "Permission denied" in refused.stderr) == (2, True)

        assert "copytruncate" in TEXT
        namespace.output("sh", "-c", "cp /mnt/vbnfs.log /mnt/vbnfs.log.1; : >/mnt/vbnfs.log")
        old = daemon(namespace)
        with open(f"{namespace.path.removesuffix('ns/mnt')}root{VBN}/{SESSION}", "rb") as file:
            first = file.read(1000)
            for command, more in CHANGE_OVER.findall(block_with("umount --lazy")):
                options = f"{more} -o {settings}".split() if command == "mount" else []
                done = namespace.vbnfs(*command.split(), VBN, *options)
                assert done.returncode == 0, done.stderr
            assert daemon(namespace) != old
            assert first + file.read() == SESSION_BYTES[:]
            assert not has_exited(old)
        until(lambda: has_exited(old))
        assert namespace.output("cat", f"{VBN}/{UNITS}", user=USER) == "unit_id\n1\n"
        events = [json.loads(line)["event"] for line in namespace.output("cat", "/mnt/vbnfs.log").splitlines()]
        assert events
        assert "mounted" in namespace.output("cat", "/mnt/vbnfs.log.1")
