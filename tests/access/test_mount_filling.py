"""Which mount is asked to fetch: one of this user's, on the same cache."""

from pathlib import Path
from typing import Any

import pytest

from vbnfs.access import mount_filling
from vbnfs.access.mount_filling import mount_on
from vbnfs.config.sources import load_config
from vbnfs.errors import MountError
from vbnfs.host.identity import our_uid
from vbnfs.host.mountinfo import MountEntry


def test_no_other_users_mount_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also root asks none: its daemon could claim root's cache, report that it fetches, and never end."""
    config = load_config(command_line={"cache_dir": str(tmp_path)}, environ={}, config_file=Path("/dev/null"))
    names = ("bucket", "project", "endpoint_url", "region")
    status: dict[str, Any] = {name: getattr(config, name) for name in names}
    status |= {"cache_dir": str(tmp_path), "is_offline": False}
    asked: list[MountEntry] = []

    def ask(entry: MountEntry) -> dict[str, Any]:
        asked.append(entry)
        if entry.device == "0:1":
            raise MountError("it does not answer")
        return status

    theirs = MountEntry(Path("/mnt/theirs"), "0:9", "fuse.vbnfs", "s3:x", our_uid() + 1)
    dead, ours = (MountEntry(Path(f"/mnt/{n}"), f"0:{n}", "fuse.vbnfs", "s3:x", our_uid()) for n in (1, 2))
    monkeypatch.setattr(mount_filling, "list_mounts", lambda: [theirs, dead, ours])
    monkeypatch.setattr(mount_filling, "ask_status", ask)
    assert mount_on(config) == ours
    assert asked == [dead, ours]
