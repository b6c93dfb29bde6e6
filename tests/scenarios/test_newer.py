"""A mount tells of a dataset version that is newer than the one at its top."""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts, run_vbnfs, until

FILES = {"project_metadata/units.csv": b"unit_id\n1\n"}
NOTICE = "newer dataset version than the one at the top"


def notices(tmp_path: Path) -> list[tuple[Any, Any]]:
    """The versions, newer and at the top, that the log reports."""
    lines = [json.loads(line) for line in (tmp_path / "vbnfs.log").read_text().splitlines()]
    return [(line["newer"], line["top"]) for line in lines if line["event"] == NOTICE]


def test_a_pinned_version_that_is_not_the_newest(mounts: Mounts, tmp_path: Path) -> None:
    """`status` shows the newest version beside an older one that was asked for; so does one line in the log."""
    dataset = FakeDataset()
    for version in ("0.9.0", "0.10.0"):
        dataset.publish(version, FILES)
    with FakeS3Server(dataset.store) as server:
        mount = mounts(server.endpoint_url, "--dataset-version", "0.9.0")
        assert mount.status()["newer_version"] == "0.10.0"
        assert "newer       0.10.0 is there" in run_vbnfs("status", mount.path).stdout
        until(lambda: notices(tmp_path) == [("0.10.0", "0.9.0")])
        newest = mounts(server.endpoint_url, "--dataset-version", "latest", name="newest")
        assert (newest.status()["default_version"], newest.status()["newer_version"]) == ("0.10.0", None)
        assert "newer" not in run_vbnfs("status", newest.path).stdout
        newest.umount()
    mount.umount()
    assert notices(tmp_path) == [("0.10.0", "0.9.0")]


def test_a_newer_version_turns_up(mounts: Mounts, tmp_path: Path) -> None:
    """A version that is published while mounted is reported once; one that is older than the newest is not."""
    dataset = FakeDataset()
    dataset.publish("0.2.0", FILES)
    with FakeS3Server(dataset.store) as server:
        mount = mounts(server.endpoint_url, "--refresh", "1")
        assert mount.status()["newer_version"] is None
        for version in ("0.3.0", "0.1.0"):
            dataset.publish(version, FILES)
            until((mount.path / "manifests" / f"v{version}").exists)
        assert mount.status()["newer_version"] == "0.3.0"
        mount.umount()
    assert notices(tmp_path) == [("0.3.0", "0.2.0")]


def test_the_readme_stays_the_same_file(mounts: Mounts) -> None:
    """README.txt keeps its inode when a version appears, also for a handle and a reader that had it before.

    It has other bytes then, and another size and time: a program that goes by these copies it again.
    """
    dataset = FakeDataset()
    dataset.publish("0.2.0", FILES)
    with FakeS3Server(dataset.store) as server:
        mount = mounts(server.endpoint_url, "--refresh", "1")
        path = mount.path / "README.txt"
        with path.open("rb", buffering=0) as opened:
            before, text = os.fstat(opened.fileno()), opened.read()
            dataset.publish("0.3.0", FILES)
            until((mount.path / "manifests" / "v0.3.0").exists)
            until(lambda: b"v0.3.0" in path.read_bytes())
            after = path.stat()
            opened.seek(0)
            assert opened.read() == path.read_bytes() != text
            assert os.fstat(opened.fileno()) == after
        assert (after.st_ino, after.st_size) == (before.st_ino, len(path.read_bytes()))
        assert after.st_size != before.st_size
        assert after.st_mtime_ns == after.st_ctime_ns > before.st_mtime_ns
        downloaded = mount.path / "allensdk" / "_downloaded_data.json"
        there = downloaded.stat()
        dataset.publish("0.4.0", FILES)
        until((mount.path / "manifests" / "v0.4.0").exists)
        until(lambda: b"v0.4.0" in path.read_bytes())
        assert downloaded.stat() == there
        mount.umount()


def some_names(descriptor: int) -> list[str]:
    """The next names of a folder that is open, as few as getdents64(2) gives; none at the end."""
    buffer = ctypes.create_string_buffer(200)
    length = ctypes.CDLL(None, use_errno=True).getdents64(descriptor, buffer, len(buffer))
    assert length >= 0, os.strerror(ctypes.get_errno())
    names, at = [], 0
    while at < length:
        record = int.from_bytes(buffer.raw[at + 16 : at + 18], sys.byteorder)
        names.append(os.fsdecode(buffer.raw[at + 19 : at + record].split(b"\0")[0]))
        at += record
    return names


def test_versions_that_turn_up_while_a_folder_is_listed(mounts: Mounts) -> None:
    """Every name that was there before is listed once, and none twice, although others have come between them."""
    dataset = FakeDataset()
    for number in range(0, 80, 2):
        dataset.publish(f"0.{number}.0", FILES)
    with FakeS3Server(dataset.store) as server:
        mount = mounts(server.endpoint_url, "--refresh", "1")
        descriptor = os.open(mount.path / "manifests", os.O_RDONLY | os.O_DIRECTORY)
        listed = some_names(descriptor)
        for number in range(1, 79, 2):
            dataset.publish(f"0.{number}.0", FILES)
        until((mount.path / "manifests" / "v0.77.0").exists)
        while names := some_names(descriptor):
            listed += names
        os.close(descriptor)
        assert len(set(listed)) == len(listed)
        assert {f"v0.{number}.0" for number in range(0, 80, 2)} <= set(listed)
        assert {f"v0.{number}.0" for number in range(78)} <= set(os.listdir(mount.path / "manifests"))
        mount.umount()
