"""Mount points: which folders will do, and the programs that take mounts away."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vbnfs.daemon.mountpoint import check_mountpoint
from vbnfs.errors import MountError


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    """A mount point must be a folder that is neither in the cache folder nor around it."""
    mountpoint, cache = tmp_path / "mnt", tmp_path / "cache"
    with pytest.raises(MountError, match="mkdir -p"):
        check_mountpoint(mountpoint, cache_dir=cache)
    mountpoint.touch()
    with pytest.raises(MountError, match="not a folder"):
        check_mountpoint(mountpoint, cache_dir=cache)
    mountpoint.unlink()
    mountpoint.mkdir()
    check_mountpoint(mountpoint, cache_dir=cache)
    for cache_dir in (mountpoint, mountpoint / "cache", tmp_path):
        with pytest.raises(MountError, match="must not lie in one another"):
            check_mountpoint(mountpoint, cache_dir=cache_dir)


AS_NOBODY = """
import os, sys
from functools import partial
from pathlib import Path
from vbnfs.errors import MountError
from vbnfs.daemon.mountpoint import check_empty, check_mountpoint, make_mountpoint
cache, *folders = map(Path, sys.argv[1:])
if os.geteuid() == 0:
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
for folder in folders:
    checks = partial(make_mountpoint, parents=True), partial(check_mountpoint, cache_dir=cache), check_empty
    for check in checks:
        try:
            check(folder)
        except MountError as error:
            print(error)
"""


def test_folders_of_somebody_else() -> None:
    """The message says which folders will do, of one that an ordinary user may not see, write or list."""
    with tempfile.TemporaryDirectory() as name_of_place:  # pytest's own are closed to others
        place = Path(name_of_place)
        place.chmod(0o755)
        for name, mode in (("hidden", 0o000), ("roots", 0o555), ("unlisted", 0o333), ("full", 0o777)):
            (place / name).mkdir(mode=mode)
            (place / name).chmod(mode)
        (place / "full" / "file").touch()
        folders = [place / name for name in ("hidden/x", "roots/x", "roots", "unlisted", "full")]
        command = [sys.executable, "-c", AS_NOBODY, "/nowhere", *map(str, folders)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        (place / "hidden").chmod(0o700)  # for tidying up
        mine = "mount on an empty folder of your own, such as ~/vbn"
        refused = f"Permission denied; {mine}"
        assert done.stdout.replace(str(place), "").splitlines() == [
            f"/hidden/x: cannot be made: {refused}",
            f"/hidden/x: {refused}",
            f"/hidden/x: {refused}",
            f"/roots/x: cannot be made: {refused}",
            "/roots/x: no such folder; make it with 'mkdir -p'",
            f"/roots/x: No such file or directory; {mine}",
            f"/roots: you may not write in this folder, so you cannot mount on it; {mine}",
            f"/unlisted: {refused}",
            "/full: not empty, and a mount would hide what is there; name an empty folder, or add -o nonempty",
        ]
