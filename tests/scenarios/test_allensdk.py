"""The cache_dir of AllenSDK on a real mount, without AllenSDK: names, links, and programs that walk."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures_mount import Mount, Mounts
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease

LAST_USED = "_manifest_last_used.txt"


@pytest.fixture(scope="module")
def mount(
    seaweed: SeaweedServer, tiny_release: DemoRelease, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """The tiny release, mounted once for this module's tests."""
    directory = tmp_path_factory.mktemp("allensdk")
    factory = Mounts(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBNFS_CACHE_DIR", str(directory / "cache"))
        patch.setenv("VBNFS_LOG_FILE", str(directory / "vbnfs.log"))
        yield factory(seaweed.endpoint_url)
    factory.end()


def run(*command: str | Path) -> list[str]:
    """The lines that a program prints; it must succeed and complain of nothing."""
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_every_file_of_every_version_is_there(mount: Mount, tiny_release: DemoRelease) -> None:
    """`<project>-<version>/<path>` and `static/v<version>/<project>/<path>` are the inode that `manifests/` has."""
    cache, project = mount.path / "allensdk", tiny_release.project
    for version, files in tiny_release.files.items():
        name = tiny_release.manifest_key(version).rpartition("/")[2]
        static = cache / "static" / f"v{version}" / project
        original = mount.path / "manifests" / f"v{version}"
        for path in files:
            inode = (original / path).stat().st_ino
            assert (cache / f"{project}-{version}" / path).stat().st_ino == inode
            assert (static / path).stat().st_ino == inode
        assert (cache / name).samefile(original / name)
        assert (static / "manifests" / name).samefile(original / name)
        assert (cache / name).lstat().st_nlink == 3


def test_names_that_are_listed(mount: Mount, tiny_release: DemoRelease) -> None:
    """Manifests and folders of all versions; the list of downloads is empty; where AllenSDK writes is not listed."""
    cache, versions = mount.path / "allensdk", tiny_release.versions
    manifests = {tiny_release.manifest_key(version).rpartition("/")[2] for version in versions}
    folders = {f"{tiny_release.project}-{version}" for version in versions}
    assert set(os.listdir(cache)) == manifests | folders | {"_downloaded_data.json", "static"}
    assert (cache / "_downloaded_data.json").read_bytes() == b"{}"


def test_walks_end(mount: Mount, tiny_release: DemoRelease, tmp_path: Path) -> None:
    """find, du and `cp -r` meet no file twice; `find -L` and `cp -rL` follow all links, and all of them end."""
    cache = mount.path / "allensdk"
    assert len(run("find", cache, "-type", "f")) == 2 * len(tiny_release.versions) + 1
    followed = run("find", "-L", cache, "-name", "ecephys_session_*.nwb")
    assert len(followed) > 4 * len(tiny_release.versions)
    assert run("find", "-L", cache, "-type", "l") == []
    assert run("du", "-s", cache)
    assert run("du", "-sL", cache)
    run("cp", "-r", cache, tmp_path / "links")
    run("cp", "-rL", cache, tmp_path / "all")
    for version, files in tiny_release.files.items():
        for path, file in files.items():
            copy = tmp_path / "all" / f"{tiny_release.project}-{version}" / path
            assert copy.stat().st_size == file.size_bytes


def test_what_is_written_goes_to_a_file_of_ones_own(mount: Mount, tmp_path: Path) -> None:
    """The link leads nowhere at first; opening it for writing makes the file, outside of the mount."""
    link = mount.path / "allensdk" / LAST_USED
    own = Path(os.readlink(link))
    assert link.is_symlink()
    assert not link.exists()
    link.write_text("some manifest")
    assert own.read_text() == link.read_text() == "some manifest"
    own.unlink()
    assert not link.exists()


def test_other_mounts_and_users_have_other_files(
    mounts: Mounts, seaweed: SeaweedServer, tiny_release: DemoRelease, mount: Mount
) -> None:
    """Another mount point leads elsewhere; so it does for another user, where it is tried as root."""
    other = mounts(seaweed.endpoint_url, *(["--allow-other"] if os.geteuid() == 0 else []), name="other")
    link = other.path / "allensdk" / LAST_USED
    own = os.readlink(link)
    assert own != os.readlink(mount.path / "allensdk" / LAST_USED)
    if os.geteuid() == 0:
        # The folders above the mount are not for them: they start inside.
        nobody = pwd.getpwnam("nobody")
        look = ["readlink", LAST_USED]
        theirs = subprocess.run(look, cwd=link.parent, user=nobody.pw_uid, capture_output=True, check=True).stdout
        assert theirs.decode().startswith(f"/run/vbnfs-users/{nobody.pw_uid}/")
        assert os.readlink(link) == own
