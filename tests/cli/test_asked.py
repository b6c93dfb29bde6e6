"""The settings of a mount, as its daemon reports them."""

import pytest

from vbnfs.cli.asked import _mirror_of
from vbnfs.config.datasets import MirrorPlace
from vbnfs.errors import MountError


def test_the_mirror_of_a_mount() -> None:
    """It is read as a setting is; a daemon that reports none has none, and one that is no mirror is refused."""
    mirror = MirrorPlace("lab-copy", "http://lab:8333")
    assert _mirror_of({"mountpoint": "/m", "mirror": str(mirror)}) == mirror
    assert _mirror_of({"mountpoint": "/m", "mirror": None}) is _mirror_of({"mountpoint": "/m"}) is None
    for text in ("endpoint_url=file:///etc/passwd", 17, ["bucket=lab-copy"]):
        with pytest.raises(MountError, match="/m: its daemon's status is none: mirror"):
            _mirror_of({"mountpoint": "/m", "mirror": text})
