"""Which places paths below `by` name."""

from pathlib import Path

import pytest

from vbnfs.cli.browsed import places_of
from vbnfs.errors import DatasetError


def test_a_path_out_of_the_mount(tmp_path: Path) -> None:
    """A path that leads back into the mount names what is there; one that leads out of it is refused by name."""
    mountpoint = tmp_path.resolve() / "mount"
    (mountpoint / "by/sex/F").mkdir(parents=True)
    (mountpoint / "sessions/7").mkdir(parents=True)
    (mountpoint / "by/sex/F/7").symlink_to("../../../sessions/7")
    assert list(places_of(mountpoint, "by/sex/F")) == ["sessions/7"]
    assert list(places_of(mountpoint, "by/../sessions")) == ["sessions"]
    with pytest.raises(DatasetError, match=r"by/\.\./\.\./other: not in a vbnfs mount"):
        list(places_of(mountpoint, "by/../../other"))
