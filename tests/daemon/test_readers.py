"""As whose files are shown, and settings that keep out those for whom they are meant."""

import os
from dataclasses import replace

import pytest

from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.daemon import readers
from vbnfs.daemon.readers import check_readers, ownership_of, problems_of_sharing
from vbnfs.errors import MountError
from vbnfs.filesystem.ownership import Ownership

OTHER = 54321


def config(**settings: str) -> Config:
    return load_config(command_line=settings, environ={})


def test_ownership() -> None:
    """Without settings everything is of the process's user; a setting replaces what it names."""
    assert ownership_of(config()) == Ownership(os.getuid(), os.getgid())
    assert ownership_of(config(gid="7", umask="27")) == Ownership(os.getuid(), 7, 0o27, 0o27)
    assert ownership_of(config(uid="8", allow_root="1")) == Ownership(8, os.getgid(), 0o77, 0o77)


def test_who_mounts_must_be_able_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes that would keep out the process itself are refused, unless no mode keeps it out."""
    closed = config(uid=str(OTHER), gid=str(OTHER), umask="077")
    monkeypatch.setattr(readers, "has_capability", lambda number: True)
    check_readers(closed)
    monkeypatch.setattr(readers, "has_capability", lambda number: False)
    with pytest.raises(MountError, match="who mounts, could not read them"):
        check_readers(closed)
    for allowed in (replace(closed, umask=0o022), replace(closed, gid=os.getgid(), umask=0o027), config(umask="077")):
        check_readers(allowed)


def test_owners_without_others() -> None:
    """uid and gid of others have no effect on them while they cannot enter the mount: that is warned of."""
    missing = "without allow_other: no other user can enter the mount; add allow_other"
    assert problems_of_sharing(config(uid=str(OTHER), gid=str(OTHER))) == (f"uid and gid {missing}",)
    assert problems_of_sharing(config(gid=str(OTHER))) == (f"gid {missing}",)
    for settings in ({}, {"gid": str(os.getgid())}, {"umask": "077"}, {"gid": str(OTHER), "allow_other": "yes"}):
        assert problems_of_sharing(config(**settings)) == ()
