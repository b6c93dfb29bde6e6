"""Claims on blocks between hosts, by links on a real disk. Two `HostClaims` of one process are strangers."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vbnfs.cache import host_claims, marks
from vbnfs.cache.claims import LANES
from vbnfs.cache.host_claims import STRETCH, HostClaims
from vbnfs.host.places import folder_at
from vbnfs.host.process_names import name_of_this_process

OTHER_PROCESS = """
import sys
import time
from pathlib import Path
from vbnfs.cache.host_claims import HostClaims
from vbnfs.host.places import folder_at
claims = HostClaims(folder_at(Path(sys.argv[1])))
print(claims.take("a", range(4)), flush=True)
sys.stdin.read()
"""
STRANGER = "elsewhere/boot/1/2/3#4"


def claims_at(folder: Path) -> HostClaims:
    return HostClaims(folder_at(folder))


def make_old(path: Path) -> None:
    """As if it had been made long ago."""
    long_ago = path.lstat().st_mtime - 2 * marks.OLD_SECONDS
    os.utime(path, (long_ago, long_ago), follow_symlinks=False)


def test_a_stretch_is_claimed_once(tmp_path: Path) -> None:
    """Blocks of a stretch that another has claimed are not to be had; those of others, and of other contents, are."""
    one, other = claims_at(tmp_path), claims_at(tmp_path)
    assert one.take("a", range(2, STRETCH + 2)) == list(range(2, STRETCH + 2))
    assert other.take("a", range(3 * STRETCH)) == list(range(2 * STRETCH, 3 * STRETCH))
    assert other.take("b", range(STRETCH)) == list(range(STRETCH))
    one.drop("a", range(2, STRETCH))
    assert other.take("a", range(1)) == [0]
    one.drop("a", range(STRETCH, STRETCH + 2))
    other.drop("a", range(3 * STRETCH))
    other.drop("b", range(STRETCH))
    assert list(tmp_path.glob("[!.]*")) == []


def test_a_stretch_is_given_back_with_its_last_block(tmp_path: Path) -> None:
    """One process may claim blocks of a stretch one by one; until all are given back it has the stretch."""
    one, other = claims_at(tmp_path), claims_at(tmp_path)
    assert one.take("a", range(1)) == [0]
    assert one.take("a", range(1, 2)) == [1]
    one.drop("a", range(1))
    assert other.take("a", range(4, 5)) == []
    one.drop("a", range(1, 2))
    assert other.take("a", range(4, 5)) == [4]
    one.drop("a", range(4, 5))  # which is not its own
    assert one.take("a", range(4, 5)) == []


def test_a_second_lane(tmp_path: Path) -> None:
    """A process that waited too long claims in the other lane; what is old in the first one goes with that."""
    one, other, third = (claims_at(tmp_path) for _ in range(3))
    one.take("a", range(4))
    assert other.take("a", range(4), lane=LANES[1]) == [0, 1, 2, 3]
    assert third.take("a", range(4), lane=LANES[1]) == []
    other.drop("a", range(4))
    assert other.take("a", range(4)) == []  # one may be slow
    make_old(tmp_path / "a-0")
    assert other.take("a", range(4), lane=LANES[1]) == [0, 1, 2, 3]
    other.drop("a", range(4))
    assert list(tmp_path.glob("[!.]*")) == []


def test_a_killed_process_claims_nothing(tmp_path: Path) -> None:
    """What a killed process of this host had claimed is free at once."""
    ours = claims_at(tmp_path)
    command = [sys.executable, "-c", OTHER_PROCESS, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[0, 1, 2, 3]\n"
        assert ours.take("a", range(4)) == []
        process.kill()
        process.wait()
        assert ours.take("a", range(4)) == [0, 1, 2, 3]


def test_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    """A process that begins takes away what is old; a claim that may be a living process's stays."""
    for name in ("a-0", "a-1"):
        (tmp_path / name).symlink_to(STRANGER)
    make_old(tmp_path / "a-0")
    assert claims_at(tmp_path).take("b", range(1)) == [0]
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"a-1", "b-0"}


def test_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no links, or something else has a claim's name, all blocks are free."""
    (tmp_path / "a-0").touch()
    one, other = claims_at(tmp_path), claims_at(tmp_path)
    assert one.take("a", range(4)) == [0, 1, 2, 3]
    one.drop("a", range(4))
    assert (tmp_path / "a-0").exists()

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "symlink", no_links)
    assert one.take("b", range(4)) == other.take("b", range(4)) == [0, 1, 2, 3]


def test_a_folder_that_is_deleted(tmp_path: Path) -> None:
    """Where the folder is deleted, all blocks are free once; then it is made again."""
    one, other = claims_at(tmp_path / "claims"), claims_at(tmp_path / "claims")
    one.take("a", range(4))
    shutil.rmtree(tmp_path / "claims")
    assert other.take("a", range(4)) == one.take("b", range(4)) == [0, 1, 2, 3]
    other.drop("a", range(4))
    assert other.take("c", range(4)) == [0, 1, 2, 3]
    assert one.take("c", range(4)) == []


def test_a_request_that_is_sent_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS may say that a link is there which the same request has made: it is its maker's."""
    symlink = os.symlink

    def twice(target: str, name: str, *, dir_fd: int) -> None:
        symlink(target, name, dir_fd=dir_fd)
        symlink(target, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "symlink", twice)
    assert claims_at(tmp_path).take("a", range(4)) == [0, 1, 2, 3]
    assert claims_at(tmp_path).take("a", range(4)) == []


def test_waiting_for_a_mark(tmp_path: Path) -> None:
    """One that is another's is waited for, and taken when it is old; one that is given back is taken at once."""
    with folder_at(tmp_path).opened() as folder:
        (tmp_path / "mark").symlink_to(STRANGER)
        assert not marks.wait_for_mark(folder, "mark", 0.0)
        make_old(tmp_path / "mark")
        assert marks.wait_for_mark(folder, "mark", 0.0)
        assert not marks.set_mark(folder, "mark")
        marks.remove_mark(folder, "mark")
        assert marks.set_mark(folder, "mark")


def test_a_pulse(tmp_path: Path) -> None:
    """By it another process sees that the one that has claimed a block is at work. What is free has none."""
    one, other = claims_at(tmp_path), claims_at(tmp_path)
    assert other.pulse("a", 3) is None
    assert not one.are_held
    one.take("a", range(4))
    assert one.are_held
    [pulse] = tmp_path.glob(".pulse-*")
    os.utime(pulse, (1.0, 1.0))
    seen = other.pulse("a", 3)
    assert seen == (name_of_this_process(), 1.0)
    one.show_pulse()
    assert other.pulse("a", 3) != seen
    pulse.unlink()
    assert other.pulse("a", 3) == (name_of_this_process(), 0.0)
    one.drop("a", range(4))
    assert not one.are_held
    assert other.pulse("a", 3) is None


def test_a_pulse_is_there_before_what_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that looks for it and finds none would believe that for a minute, on NFS."""
    pulses: list[Path] = []

    def set_mark(*_: object) -> bool:
        pulses.extend(tmp_path.glob(".pulse-*"))
        return True

    monkeypatch.setattr(host_claims, "set_mark", set_mark)
    claims_at(tmp_path).take("a", range(1))
    assert len(pulses) == 1


def test_an_old_pulse_is_swept(tmp_path: Path) -> None:
    """What a process left that ended an hour ago goes; a pulse that may be a living process's stays."""
    for name, age in ((".pulse-1", 7200), (".pulse-2", 60)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    claims_at(tmp_path).take("a", range(1))
    assert not (tmp_path / ".pulse-1").exists()
    assert (tmp_path / ".pulse-2").exists()
