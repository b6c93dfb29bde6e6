"""docs/administration.md does what it says: a group's mount, rotating the log, changing over to another daemon."""

import json
import re
import sys
from collections.abc import Iterator

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import until
from tests.scenarios.system.namespace import MEMBER, REPOSITORY, USER, Namespace
from tests.scenarios.system.namespace import STRANGER as OTHER
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


# Users of a mount of root's, their folders, and where AllenSDK's file is for each.
READERS = """
mkdir -p /run/layers/var/upper /run/layers/var/work /run/layers/tmp/upper /run/layers/tmp/work
chmod 1777 /run/layers/tmp/upper
mkdir -p /run/layers/usr/local/upper /run/layers/usr/local/work
for folder in var tmp usr/local; do  # this vbnfs may lie below /tmp
    layers=/run/layers/$folder
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$layers/upper,workdir=$layers/work" "/$folder"
done
echo nohome:x:4799:4799::/nonexistent:/bin/sh >>/etc/passwd
echo nohome:x:4799: >>/etc/group
echo fresh:x:4798:4798::/mnt/fresh:/bin/sh >>/etc/passwd
echo fresh:x:4798: >>/etc/group
mkdir -p -m 700 /mnt/root /mnt/fresh /run/user/4712 /run/user/4713
chown fresh: /mnt/fresh
chmod 777 /mnt/stranger
chmod 755 /run/user
chown member: /run/user/4712
chown stranger: /run/user/4713
touch /run/stamp
"""
# What is written to /etc, /var, /tmp, /usr/local and /usr/sbin is in /run/layers.
NEW = "find /mnt /run -xdev -newer /run/stamp ! -type d ! -path '/run/layers/*/work/*' ! -path /run/fuse"
ALLENSDK = "allensdk/_manifest_last_used.txt"


def test_where_files_come_into_being(server: FakeS3Server) -> None:
    """The places that the document lists are those where files come into being: all of them, and no others.

    Users and root mount without settings, users read root's mount as AllenSDK does, and both install.
    """
    with Namespace() as namespace:
        namespace.output("sh", "-euc", READERS)

        def vbnfs(*words: str, user: str | None = None) -> None:
            own = ["env", "-u", "XDG_CONFIG_HOME", *(["HOME=/mnt/root"] if user is None else [])]
            done = namespace.run(*own, sys.executable, "-B", "-m", "vbnfs", *words, folder=str(REPOSITORY), user=user)
            assert done.returncode == 0, done.stderr

        vbnfs("install")
        vbnfs("install", "--user")
        vbnfs("mount", "/mnt/vbn", "--endpoint-url", server.endpoint_url, "--allow-other")
        for user in (USER, MEMBER):
            vbnfs("mount", f"/mnt/{user}/vbn", "--endpoint-url", server.endpoint_url, user=user)
        load = f"cat {UNITS}; printf %s a-version > {ALLENSDK}"
        for user in (None, USER, "fresh", OTHER, "nohome"):
            namespace.output("sh", "-c", load, folder="/mnt/vbn", user=user)
        found = namespace.run("sh", "-c", NEW).stdout  # it may not look into the users' mounts
    made = re.sub(r"^/run/layers(/.*?)/upper/", r"\1/", found, flags=re.MULTILINE).splitlines()
    rows = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    places = [place for row in rows for place in re.findall(r"`(.*?)`", row)]
    listed = {place: pattern_of(place) for place in places if place.startswith(("~", "/"))}
    assert [path for path in made if not any(pattern.match(path) for pattern in listed.values())] == []
    unused = {place for place, pattern in listed.items() if not any(map(pattern.match, made))}
    assert unused == {"~/.config/vbnfs", "/etc/vbnfs", "/var/cache/vbnfs"}  # of these the administrator makes some


def pattern_of(place: str) -> re.Pattern[str]:
    """What is at a place of the document, or below it."""
    text = re.escape(place).replace(r"\*", "[^/]*").replace("UID", r"\d+")
    return re.compile(text.replace(re.escape("~"), "/mnt/[a-z]+", 1).replace("/sbin/", "/(?:usr/)?sbin/") + "(?:/|$)")
