"""What facts mean: the findings of each check, without asking anything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vbnfs.cache.sampling import Sample
from vbnfs.daemon.trial import Trial
from vbnfs.doctor import disk, fuse, machine, mounts, network, throughput
from vbnfs.doctor.disk import DiskFacts, Stored
from vbnfs.doctor.findings import Finding, Level, size_text
from vbnfs.doctor.machine import MachineFacts
from vbnfs.doctor.mounts import MountFacts
from vbnfs.doctor.network import NameFacts, ServerFacts
from vbnfs.doctor.throughput import ThroughputFacts
from vbnfs.errors import (
    AccessDeniedError,
    CacheError,
    MountError,
    ProxyError,
    UnreachableError,
    UntrustedServerError,
    UsageError,
    WrongClockError,
)
from vbnfs.s3.proxies import Proxy

GIB = 1 << 30
MACHINE = MachineFacts(
    system="Linux",
    kernel="6.18.5-amd64",
    distribution="Debian GNU/Linux 12 (bookworm)",
    versions=("vbnfs 1",),
    foreign_home=None,
    open_files=1024,
    data_bytes=None,
    refusal=None,
    problems=(),
    lowered=(),
)
STORED = Stored(usage_bytes=3 * GIB, limit_bytes=100 * GIB, sample=Sample(512, 40, 0))
DISK = DiskFacts(
    directory=Path("/home/me/.cache/vbnfs"),
    file_system="ext4",
    free_bytes=50 * GIB,
    reserve_bytes=5 * GIB,
    stored=STORED,
    log_file=Path("/home/me/vbnfs.log"),
)
NAME = NameFacts(name="s3.example.org", addresses=2)
SERVER = ServerFacts(server="https://s3.example.org/bucket", trusted="/etc/ssl (the system's)", ahead_seconds=0.4)
PROXY = Proxy("http", "proxy.example.org", 3128, "HTTPS_PROXY")


def levels(found: list[Finding]) -> list[Level]:
    return [finding.level for finding in found]


@pytest.mark.parametrize(
    ("kernel", "level", "words"),
    [
        ("3.10.0-1160.el7", Level.TO_DO, "Linux 3.15 or later is needed"),
        ("3.15.0", Level.NOTE, "from Linux 6.9 on"),
        ("6.8.0-31-generic", Level.NOTE, "from Linux 6.9 on"),
        ("6.9.0", Level.GOOD, "Linux 6.9.0"),
        ("6.18.5-amd64", Level.GOOD, "Linux 6.18.5-amd64"),
        ("of a name", Level.NOTE, "of a name"),
    ],
)
def test_the_kernel(kernel: str, level: Level, words: str) -> None:
    """A kernel before Linux 3.15 needs an update; one before 6.9 reads no files by itself, which is a note."""
    [finding] = machine.decide_kernel(replace(MACHINE, kernel=kernel))
    assert finding.level is level
    assert words in finding.text
    assert bool(finding.remedy) == (level is Level.TO_DO)


def test_another_system_than_linux() -> None:
    """Without Linux there is no mount."""
    [finding] = machine.decide_kernel(replace(MACHINE, system="Darwin", kernel="24.1.0"))
    assert (finding.level, finding.text) == (Level.TO_DO, "Darwin 24.1.0: Linux 3.15 or later is needed")


def test_limits() -> None:
    """A limit that is too strict, and sockets without a folder, need doing; what is lowered is a note."""
    refusal = MountError("this process may have 32 files open")
    problems = ("'vbnfs status' will not reach this mount: no", "what is behind the first 5 MiB is not kept")
    strict = replace(MACHINE, refusal=refusal, problems=problems, lowered=("less memory",))
    found = list(machine.decide_limits(strict))
    assert levels(found) == [Level.TO_DO, Level.TO_DO, Level.TO_DO, Level.NOTE]
    assert found[0].error is refusal
    assert [finding.section for finding in found[1:3]] == [
        "vbnfs-status-does-not-reach-the-mount",
        "too-little-memory-or-too-few-open-files",
    ]
    [well] = machine.decide_limits(MACHINE)
    assert (well.level, well.text) == (Level.GOOD, "1,024 open files; memory without a limit")


def test_settings() -> None:
    """Variables and files that cannot be used need doing, and so does a HOME of another user."""
    wrong = UsageError("VBNFS_CACHE_SIZE: 'much' will not do: a size is wanted")
    found = list(machine.decide_settings(wrong, replace(MACHINE, foreign_home="/root")))
    assert levels(found) == [Level.TO_DO, Level.TO_DO]
    assert "VBNFS_CACHE_SIZE" in found[0].text
    assert "HOME is /root" in found[1].text
    assert levels(list(machine.decide_settings(None, MACHINE))) == [Level.GOOD]


def test_fuse_and_passthrough() -> None:
    """What the trial mount came to is said; that the kernel reads no files by itself is a note, with the reason."""
    facts = fuse.FuseFacts(
        way="fusermount3 3.14.0",
        trial=Trial(no_passthrough="the kernel grants it to root only"),
        unwanted=None,
        sharing_problems=(),
        lets_others_in=True,
        most_mounts=5,
    )
    [can] = fuse.decide_fuse(facts)
    assert can.level is Level.GOOD
    assert "by fusermount3 3.14.0" in can.text
    assert "5 at the most may have allow_other" in can.text
    [not_root] = fuse.decide_passthrough(facts, is_local=True)
    assert (not_root.level, not_root.text.rpartition(": ")[2]) == (Level.NOTE, "the kernel grants it to root only")
    as_root = replace(facts, trial=Trial(), way="mount(2)")
    assert levels(list(fuse.decide_passthrough(as_root, is_local=True))) == [Level.GOOD]
    [far] = fuse.decide_passthrough(as_root, is_local=False)
    assert "other hosts may change" in far.text
    refused = replace(facts, trial=Trial(MountError("/tmp/x: cannot be mounted")), sharing_problems=("uid without",))
    assert levels(list(fuse.decide_fuse(refused))) == [Level.TO_DO, Level.TO_DO]
    assert levels(list(fuse.decide_passthrough(refused, is_local=True))) == [Level.LEFT_OUT]


def test_the_folder_of_the_cache() -> None:
    """A folder that is refused, or cannot be made, needs doing; one on another host's disk is a note."""
    assert levels(list(disk.decide_folder(DISK))) == [Level.GOOD]
    assert levels(list(disk.decide_folder(replace(DISK, is_local=False, file_system="nfs4")))) == [Level.NOTE]
    late = list(disk.decide_folder(replace(DISK, is_local=False, is_seen_late=True)))
    assert (levels(late), "nocto" in late[1].text) == ([Level.NOTE, Level.NOTE], True)
    none_yet = replace(DISK, stored=None, parent=Path("/home/me"))
    [may_be] = disk.decide_folder(none_yet)
    assert (may_be.level, "the first mount makes it" in may_be.text) == (Level.GOOD, True)
    [may_not] = disk.decide_folder(replace(none_yet, may_be_made=False))
    assert (may_not.level, "may not make one in /home/me" in may_not.text) == (Level.TO_DO, True)
    refused = replace(none_yet, refusal=CacheError("cache directory /x: it must be yours"))
    assert levels(list(disk.decide_folder(refused))) == [Level.TO_DO]
    assert levels([*disk.decide_disk(refused), *disk.decide_cache(refused)]) == [Level.LEFT_OUT, Level.LEFT_OUT]
    others = replace(DISK, others=("--cache-also /lab: no", "--index /i: no"))
    assert levels(list(disk.decide_folder(others))) == [Level.GOOD, Level.TO_DO, Level.TO_DO]


def test_the_disk_and_what_is_stored() -> None:
    """A disk without room, pins in the way, a size that is exceeded, damage and wrong hashes need doing."""
    assert levels([*disk.decide_disk(DISK), *disk.decide_cache(DISK), *disk.decide_log(DISK)]) == [Level.GOOD] * 3
    assert levels(list(disk.decide_disk(replace(DISK, no_room="takes no more")))) == [Level.TO_DO]
    wrong = replace(
        STORED,
        usage_bytes=106 * GIB,
        sample=Sample(512, 40, 3),
        mismatched_files=1,
        unused_text="of an earlier vbnfs",
    )
    found = list(disk.decide_cache(replace(DISK, stored=wrong)))
    assert levels(found) == [Level.TO_DO, Level.TO_DO, Level.TO_DO, Level.NOTE]
    assert [finding.text.partition(";")[0] for finding in found[:3]] == [
        "it takes 106.0 GiB of 100.0 GiB",
        "3 of 512 blocks that were read are damaged",
        "1 file has another hash than the manifest says, and cannot be read",
    ]
    assert all(finding.remedy for finding in found[:3])
    pinned = replace(wrong, pins_problem="what is pinned takes 2 GiB of 1 GiB", sample=Sample(), mismatched_files=2)
    assert "pinned" in next(iter(disk.decide_cache(replace(DISK, stored=pinned)))).text
    no_log = replace(DISK, log_refusal=MountError("log file /x: Permission denied"))
    assert levels(list(disk.decide_log(no_log))) == [Level.TO_DO]


@pytest.mark.parametrize(
    ("ahead", "level", "text"),
    [
        (None, Level.LEFT_OUT, "no server says what time it is"),
        (-1.9, Level.GOOD, "as the server's"),
        (30.0, Level.NOTE, "this machine's clock is 30 seconds ahead of the server's"),
        (-899.0, Level.NOTE, "this machine's clock is 14 minutes behind the server's"),
        (901.0, Level.TO_DO, "this machine's clock is 15 minutes ahead of the server's"),
        (-3 * 86400.0, Level.TO_DO, "this machine's clock is 3 days behind the server's"),
    ],
)
def test_the_clock(ahead: float | None, level: Level, text: str) -> None:
    """A clock that is more than 15 minutes off the server's has to be set; within two seconds it is right."""
    [finding] = network.decide_clock(replace(SERVER, ahead_seconds=ahead))
    assert (finding.level, finding.text) == (level, text)
    assert (finding.remedy == "set this machine's clock (timedatectl set-ntp true)") == (level is Level.TO_DO)


def by_check(name: NameFacts, server: ServerFacts) -> dict[str, Finding]:
    """The findings of the network, one of each check."""
    found = {
        "clock": network.decide_clock(server),
        "name": network.decide_name(name),
        "proxy": network.decide_proxy(name, server),
        "certificates": network.decide_certificates(server),
        "server": network.decide_server(name, server),
    }
    return {check: next(iter(findings)) for check, findings in found.items()}


@pytest.mark.parametrize(
    ("name", "server", "culprit"),
    [
        (NAME, SERVER, None),
        (replace(NAME, problem="Name or service not known"), {"failure": UnreachableError("no name")}, "name"),
        (
            NameFacts(name="proxy.example.org", is_proxy=True, problem="Name or service not known"),
            {"failure": ProxyError("no name"), "proxy": PROXY},
            "name",
        ),
        (NAME, {"failure": ProxyError("refused"), "proxy": PROXY}, "proxy"),
        (NAME, {"wrong_proxy": UsageError("HTTPS_PROXY: no")}, "proxy"),
        (NAME, {"wrong_trust": UsageError("/x (--ca-bundle): no")}, "certificates"),
        (NAME, {"failure": UntrustedServerError("not trusted")}, "certificates"),
        (NAME, {"failure": WrongClockError("not valid yet")}, "clock"),
        (NAME, {"failure": UnreachableError("refused")}, "server"),
        (NAME, {"failure": AccessDeniedError("403")}, "server"),
    ],
)
def test_a_failure_is_said_once(name: NameFacts, server: Any, culprit: str | None) -> None:
    """What fails stands at the check that it belongs to; the others are good, or name that check."""
    facts = server if isinstance(server, ServerFacts) else replace(SERVER, **server)
    found = by_check(name, facts)
    assert [check for check, finding in found.items() if finding.level is Level.TO_DO] == (
        [culprit] if culprit else []
    )
    named = {finding.text for finding in found.values() if finding.level is Level.LEFT_OUT}
    assert named <= {f"see {culprit}"}
    assert (found["server"].level is Level.GOOD) == (culprit is None)


def test_a_server_without_tls_and_a_name_that_is_none() -> None:
    """Without TLS no certificate is needed; an address is looked up by no name server."""
    found = by_check(NameFacts(name="127.0.0.1", is_address=True), replace(SERVER, server="http://127.0.0.1:8333/b"))
    assert found["certificates"].level is Level.NOTE
    assert found["name"].text == "127.0.0.1 is an address"
    assert by_check(NAME, replace(SERVER, proxy=PROXY))["proxy"].text == "http://proxy.example.org:3128 (HTTPS_PROXY)"


def test_throughput() -> None:
    """The rate is said in MB a second; a slow line is a note."""
    [fast] = throughput.decide_throughput(ThroughputFacts(count_bytes=8 << 20, seconds=0.5))
    assert (fast.level, fast.text) == (Level.GOOD, "8.0 MiB in 0.5 s: 16.8 MB/s")
    [slow] = throughput.decide_throughput(ThroughputFacts(count_bytes=1 << 20, seconds=10.0))
    assert slow.level is Level.NOTE
    assert slow.text.startswith("1.0 MiB in 10.0 s: 0.1 MB/s; with less than 1 MB/s")
    assert levels(list(throughput.decide_throughput(ThroughputFacts(reason="no")))) == [Level.LEFT_OUT]
    failure = AccessDeniedError("403")
    assert levels(list(throughput.decide_throughput(ThroughputFacts(failure=failure)))) == [Level.TO_DO]


def test_mounts() -> None:
    """A mount that does not answer, or stores nothing, needs doing; another version and an old error are notes."""
    dead = MountFacts("/dead", failure=MountError("/dead: its daemon is gone"))
    sick = MountFacts(
        "/sick",
        {
            "server_problem": "the server does not answer",
            "cache_problem": "/c: what is pinned takes all: 'vbnfs pins' lists the pins",
            "refused": ["a manifest"],
            "vbnfs_version": "0.0.1",
            "last_error": "a read failed",
        },
    )
    found = list(mounts.decide_mounts((dead, sick)))
    assert levels(found) == [Level.TO_DO, Level.TO_DO, Level.TO_DO, Level.NOTE, Level.NOTE, Level.NOTE]
    assert [finding.section for finding in found[1:3]] == [
        "network-is-unreachable",
        "nothing-is-kept-because-of-pins",
    ]
    assert "it runs vbnfs 0.0.1" in found[4].text
    [evil] = [f.text for f in mounts.decide_mounts((MountFacts("/mnt/$(id)", {"vbnfs_version": "0.0.1"}),))][:1]
    assert "'vbnfs umount '/mnt/$(id)''" in evil  # what is to be typed can be
    assert [f.text for f in mounts.decide_mounts(())] == ["nothing is mounted"]
    assert [f.text for f in mounts.decide_mounts((MountFacts("/well", {}),))] == ["1 mount answers"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB"), (3 << 50, "3072.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    """Bytes are said in units of 1024."""
    assert size_text(count) == text
