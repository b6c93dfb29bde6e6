"""What `vbnfs verify` makes of what another user's mount says of its files; the mount is in scenarios/system."""

import os
from pathlib import Path

import pytest

from vbnfs.access.verifying import FAILED, GOOD, INCOMPLETE, MISMATCH, NO_FILE, NO_HASH, Finding
from vbnfs.cli import verify_as_reader
from vbnfs.errors import MountError, UsageError
from vbnfs.host.mountinfo import MountEntry

TEXTS = {
    "a.nwb": ("blake2b:1234 2026-11-29", GOOD),
    "b.nwb": ("no: mismatch: its hash is 12", MISMATCH),
    "c.nwb": ("no: not complete", INCOMPLETE),
    "d.csv": ("no: the manifest has no hash of it", NO_HASH),
    "e.txt": (None, NO_FILE),
    "f.nwb": ("of another vbnfs", FAILED),
    "g.nwb": ("", FAILED),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose files have the attribute that a mount gives them, one of them by two names and by a link."""
    for name, (text, _) in TEXTS.items():
        (tmp_path / name).write_bytes(b"data")
        if text is not None:
            os.setxattr(tmp_path / name, "user.vbnfs.verified", text.encode())
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "again.nwb").hardlink_to(tmp_path / "a.nwb")
    (tmp_path / "more" / "link.nwb").symlink_to(tmp_path / "a.nwb")
    return tmp_path


def test_what_a_mount_has_found(folder: Path) -> None:
    """Each file is reported once, in the words of `vbnfs verify`; a path without anything to verify is named."""
    shown: list[Finding] = []
    outcome = verify_as_reader.run([folder, folder / "e.txt"], show=shown.append)
    assert [(Path(one.path).name, one.outcome) for one in shown] == [
        (name, word) for name, (_, word) in TEXTS.items()
    ]
    assert [one.detail for one in shown][1:3] == ["mismatch: its hash is 12", "not complete"]
    assert (outcome.findings, outcome.barren) == (tuple(shown), (str(folder / "e.txt"),))


def test_paths_that_are_not_there(folder: Path) -> None:
    """A path that is missing is an error; a file whose attribute cannot be read has failed."""
    with pytest.raises(MountError, match="No such file"):
        verify_as_reader.run([folder / "none"], show=lambda finding: None)

    outcome = verify_as_reader.run([Path("/proc/self/limits")], show=lambda finding: None)
    assert [(one.outcome, one.detail) for one in outcome.findings] == [(FAILED, "Operation not supported")]


def test_whose_mount_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in one's own mount, or in none, are verified as always; in another user's nothing is fetched."""
    entry = MountEntry(folder, "0:99999", "fuse.vbnfs", "s3:x", os.geteuid())
    monkeypatch.setattr(verify_as_reader, "list_mounts", lambda: [entry])
    assert not verify_as_reader.is_wanted([folder / "a.nwb"], fetch=True)
    monkeypatch.setattr(verify_as_reader, "is_ours", lambda entry: False)
    assert verify_as_reader.is_wanted([folder / "a.nwb"], fetch=False)
    assert not verify_as_reader.is_wanted([folder.parent], fetch=True)
    with pytest.raises(UsageError, match="--fetch: the cache of"):
        verify_as_reader.is_wanted([folder / "a.nwb"], fetch=True)
