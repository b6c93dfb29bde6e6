"""What `vbnfs status` shows to a person: whether the mount works, what it is, what is wrong and what helps."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vbnfs import __version__
from vbnfs.cli.status_text import status_lines

ERROR = "a.nwb: offline (the server does not answer); connect to the network"
STATUS: dict[str, Any] = {
    "mountpoint": "/home/me/vbn",
    "pid": 4711,
    "vbnfs_version": __version__,
    "uptime_seconds": 3 * 86400.0,
    "dataset": "visual-behavior-neuropixels",
    "bucket": "data",
    "project": "vbn",
    "endpoint_url": None,
    "default_version": "0.5.0",
    "newer_version": None,
    "versions": ["0.4.0", "0.5.0"],
    "refused": [],
    "is_offline": False,
    "is_offline_wanted": False,
    "cache_dir": "/home/me/.cache/vbnfs",
    "cache_size_bytes": 100 << 30,
    "cache_usage_bytes": 1 << 30,
    "cache_reserve_bytes": 2 << 30,
    "cache_free_bytes": 50 << 30,
    "log_file": None,
    "metrics": {"read_bytes": 1 << 30, "received_bytes": 1 << 20, "range_requests": 1234, "mirror_blocks": 5},
}
READERS = {
    **{name: STATUS[name] for name in STATUS.keys() - {"cache_dir", "log_file", "metrics"}},
    "mounted_by": "root",
}


def shown(**changes: Any) -> list[str]:
    return list(status_lines({**STATUS, **changes}))


def test_a_mount_that_works() -> None:
    """The folder, whether it works and since when, sections of facts in words and units, and what to type next."""
    assert shown() == [
        "/home/me/vbn",
        "  works, mounted 3 days ago: S3 is reached",
        "  The dataset",
        "    dataset     visual-behavior-neuropixels",
        "    versions    0.4.0, 0.5.0  (at the top: 0.5.0)",
        "    from        s3://data/vbn by AWS",
        "  Read since it was mounted",
        "    read        1.0 GiB by programs, 1.0 MiB from S3 in 1,234 requests",
        "  The cache",
        "    cache       /home/me/.cache/vbnfs  1.0 GiB of 100.0 GiB; 50.0 GiB free on its disk, of which it leaves"
        " 2.0 GiB",
        "  The daemon",
        f"    daemon      pid 4711, vbnfs {__version__}",
        "    log         on its terminal, or where systemd has started it: journalctl _PID=4711",
        "  'vbnfs top /home/me/vbn' shows what goes on, 'vbnfs umount /home/me/vbn' takes it away",
    ]


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        (
            {"is_offline": True},
            "works in part, mounted 3 days ago: S3 is not reached: what is cached can be read, and",
        ),
        ({"is_offline": True, "is_offline_wanted": True}, "works, mounted 3 days ago: S3 is not asked, as --offline"),
        ({"cache_problem": "the disk is full"}, "works in part, mounted 3 days ago: S3 is reached"),
        ({"refused": ["v9: unsafe"]}, "works in part"),
        ({"last_error": ERROR, "read_bytes_since_error": 0}, "works in part"),
        ({"last_error": ERROR, "read_bytes_since_error": 9}, "works, mounted"),
        ({"metrics": {**STATUS["metrics"], "mismatched_files": 1}}, "works in part"),
        ({"uptime_seconds": None}, "works: S3 is reached"),
    ],
)
def test_the_second_line_says_whether_it_works(changes: dict[str, Any], headline: str) -> None:
    """`works in part` where there is something to do: an error after which something was read is over."""
    assert shown(**changes)[1].startswith(f"  {headline}")


def test_what_is_wrong_stands_last() -> None:
    """Each failure is a line with its remedy, in a section of its own before the last line."""
    time = (datetime.now(UTC) - timedelta(minutes=12)).isoformat()
    lines = shown(
        server_problem="no answer; connect",
        cache_problem="the disk is full; free some",
        refused=["v8: unsafe", "v9: torn"],
        last_error=ERROR,
        last_error_time=time,
        read_bytes_since_error=2 << 20,
        received_bytes_since_error=1 << 20,
    )
    section = lines[lines.index("  What is wrong, or was") + 1 : -1]
    assert [line[:16].strip() for line in section] == [
        *("problem", "not kept", "refused", "refused2", "last error", "it was"),
    ]
    assert section[4] == f"    last error  {ERROR}"
    assert section[5].startswith("    it was      12 minutes ago, at ")
    assert section[5].endswith("; since then 2.0 MiB were read, 1.0 MiB of that from S3")


def test_lines_that_stand_there_where_there_is_something_to_say() -> None:
    """A newer version, the way to the bucket, a limit, who keeps the kernel from reading: each with what to do."""
    lines = shown(
        newer_version="0.6.0",
        proxy="http://proxy (HTTPS_PROXY)",
        mirror="bucket=lab",
        site_cache=[
            {"url": "http://a", "blocks": 1204, "problem": None},
            {"url": "http://b", "blocks": 0, "problem": "http://b: refused"},
        ],
        cache_also=["/lab/cache"],
        limit_rate={"rate_bytes": 5 << 20, "is_shared": True, "waiting_reads": 2, "waiting_others": 0},
        passthrough={"reason": None, "open_files": 1, "files": [], "old_handles": [
            {"file": "a.nwb", "pid": 12, "program": None}, {"file": "b.nwb", "pid": 13, "program": "python"},
        ]},
    )  # fmt: skip
    text = "\n".join(lines)
    assert "mount again to have it at the top ('vbnfs diff 0.5.0 0.6.0' compares)" in text
    assert "    proxy       http://proxy (HTTPS_PROXY)" in lines
    assert "    mirror      bucket=lab  5 blocks" in lines
    servers = "http://a  1,204 blocks; http://b  0 blocks, failed last: http://b: refused; S3 is asked"
    assert f"    site cache  {servers}" in lines
    assert "    also read   /lab/cache" in lines
    assert "held back now: 2 reads" in text
    assert "    old handle  a.nwb: a program that is gone (pid 12) has it open from before it was checked" in text
    assert "    old handle2 b.nwb: python (pid 13)" in text
    assert "passthrough off, which costs speed alone: not root" in "\n".join(
        shown(passthrough={"reason": "not root", "open_files": 0, "files": [], "old_handles": []})
    )


def test_a_record() -> None:
    """Where it is; and among what is wrong, why it cannot be written, and how many lines are lost."""
    record = {"file": "/home/me/r.jsonl", "problem": None, "lost_lines": 0}
    assert "    record      /home/me/r.jsonl" in shown(record=record)
    assert "not written" not in "\n".join(shown(record=record))
    full = shown(record={**record, "problem": "No space left on device"})
    assert full[1].startswith("  works in part")
    reason = "cannot be written now: No space left on device; nothing of it is lost"
    assert f"    not written /home/me/r.jsonl {reason}" in full
    over = shown(record={**record, "lost_lines": 1234})
    assert over[1].startswith("  works,")
    assert "    not written /home/me/r.jsonl could not be written for a time; 1,234 lines of it are lost" in over


def test_another_users_mount() -> None:
    """It shows what concerns its readers, and no command that would be refused."""
    text = "\n".join(status_lines(READERS))
    assert "    mounted by  root, whose cache it reads: 'vbnfs versions' counts your own" in text
    assert "umount" not in text


def test_nothing_drives_the_terminal() -> None:
    """What comes from outside is escaped, also in what is to be typed."""
    text = "".join(shown(mountpoint="/mnt/\x1b[2J", last_error="\x1b[2J", refused=["\x07"]))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_daemon_of_another_version() -> None:
    """A mount that an older or a newer vbnfs has made says which one, and how to go on with the one installed now."""
    [line] = [line for line in shown(vbnfs_version="0.0.9") if "vbnfs 0.0.9" in line]
    assert line.endswith(f"pid 4711, vbnfs 0.0.9; installed is {__version__}: it begins with the next mount")
