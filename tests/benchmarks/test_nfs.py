"""script/scale --nfs where it cannot run, and what it makes of a machine that falls silent."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from benchmarks.nfs import rounds
from benchmarks.nfs.__main__ import _WITHIN
from benchmarks.nfs.machines import SilentMachineError
from tests.fakes.dataset import serve
from tests.fixtures_mount import Mounts


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Without its programs it names each of them, and how to install them; nothing is started."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.nfs"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("script/scale --nfs: it lacks linux.uml, unshare, ip, ")
    assert "'script/setup nfs'" in done.stderr


@pytest.mark.root
def test_it_keeps_no_mount_of_others(mounts: Mounts) -> None:
    """Its mount namespace has no copy of a mount that is there: that one's daemon could not end meanwhile."""
    with serve({"0.1.0": {"project_metadata/units.csv": b"unit_id\n1\n"}}) as server:
        mount = mounts(server.endpoint_url)
        found = ["findmnt", "--noheadings", "--types", "fuse.vbnfs"]
        assert str(mount.path) in subprocess.run(found, capture_output=True, text=True, check=True).stdout
        within = subprocess.run([*_WITHIN, *found], capture_output=True, text=True, check=False).stdout
        assert within == ""
        mount.umount()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_machine_that_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    """The machines are made anew, and its round begins again, twice at most; what did not hold before counts."""
    done, silences = list[str](), [SilentMachineError("machine two does not answer")] * times

    @contextmanager
    def running_place(_work: Path, count: int) -> Iterator[MagicMock]:
        assert count == 3 - len(done)
        yield MagicMock()

    def one_round(place: MagicMock) -> None:
        place.failed.append(f"in round {len(done)}")
        if len(done) == 1 and silences:
            raise silences.pop()
        done.append("one")

    monkeypatch.setattr(rounds, "running_place", running_place)
    monkeypatch.setattr(rounds, "make_bridge", lambda _count: None)
    monkeypatch.setattr(rounds, "ROUNDS", dict.fromkeys(("a", "b", "c"), one_round))
    if times == 3:
        with pytest.raises(SilentMachineError):
            rounds.run(tmp_path, ["a", "b", "c"])
        return
    failed = rounds.run(tmp_path, ["a", "b", "c"])
    assert failed == ["in round 0", *["in round 1"] * (times + 1), "in round 2"]
    assert (
        capsys.readouterr().out.count("machine two does not answer; the machines are made anew, and b begins")
        == times
    )
