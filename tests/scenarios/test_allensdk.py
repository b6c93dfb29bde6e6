"""The cache_dir of AllenSDK on a real mount, without AllenSDK: names, links, and programs that walk."""

import os
import pwd
import subprocess
import sys
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


STARTS = Path(__file__).parent / "allensdk" / "starts.py"
FIRST, SECOND = (f"visual-behavior-neuropixels_project_manifest_v{version}.json" for version in ("0.1.0", "0.5.0"))

# Writes the file as AllenSDK does, one step for each line that comes.
STEPS = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
for text in sys.argv[2:]:
    print(flush=True), sys.stdin.readline()
    os.write(descriptor, text.encode()), os.fsync(descriptor)
print(flush=True), sys.stdin.readline()
os.close(descriptor)
print(flush=True), sys.stdin.readline()
"""


class Writer:
    """Another process that has opened the file, and truncated it; it will write some texts and close it."""

    def __init__(self, link: Path, *texts: str) -> None:
        command = [sys.executable, "-c", STEPS, link, *texts]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._wait()

    def step(self) -> None:
        """Go on, and return when it has written or closed."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _wait(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "\n"


@pytest.fixture
def link(mount: Mount) -> Iterator[Path]:
    """The file that AllenSDK writes, with the first version; it is deleted afterwards."""
    link = mount.path / "allensdk" / LAST_USED
    link.write_text(FIRST)
    yield link
    Path(os.readlink(link)).unlink(missing_ok=True)


def seen(link: Path) -> set[str]:
    """What this process reads, and what another one does."""
    return {link.read_text(), "".join(run("cat", link))}


def test_readers_have_the_old_text_until_the_new_one_is_closed(link: Path) -> None:
    """While a process has truncated the file, and while it writes, others read the old text; then the new one."""
    writer = Writer(link, SECOND[:9], SECOND[9:])
    for _ in range(3):
        assert seen(link) == {FIRST}
        writer.step()
    assert seen(link) == {SECOND}
    writer.kill()


@pytest.mark.parametrize("texts", [(), (SECOND[:-1],), (SECOND[:9], SECOND[9:-5])])
def test_a_writer_that_is_killed_changes_nothing(link: Path, texts: tuple[str, ...]) -> None:
    """A process that is killed after truncating the file, or in the middle of a name, leaves the old text."""
    writer = Writer(link, *texts)
    for _ in texts:
        writer.step()
    writer.kill()
    assert seen(link) == {FIRST}


def test_two_writers_at_once(link: Path) -> None:
    """Two processes that write at the same time do not mix; the text is the one of that which wrote last."""
    one, other = Writer(link, SECOND), Writer(link, FIRST)
    other.step()
    other.step()
    assert seen(link) == {FIRST}
    one.step()
    one.step()
    assert seen(link) == {SECOND}
    one.kill()
    other.kill()


def test_the_link_itself_is_read_only(mount: Mount, link: Path) -> None:
    """Deleting the link and renaming over it are refused, as of all names in a mount; appending is writing."""
    for attempt in (link.unlink, lambda: (mount.path / "README.txt").rename(link)):
        with pytest.raises(OSError, match="Read-only file system"):
            attempt()
    assert seen(link) == {FIRST}
    run("sh", "-c", f"printf and-more >> '{link}'")
    assert seen(link) == {FIRST + "and-more"}
    run("truncate", "-s", "0", link)
    assert seen(link) == {FIRST + "and-more"}


def test_what_was_written_last_is_there_after_mounting_again(
    mounts: Mounts, seaweed: SeaweedServer, tmp_path: Path
) -> None:
    """What a process wrote just before the mount went is there in the next one. Another mount has none of it."""
    mount, other = (mounts(seaweed.endpoint_url, name=name) for name in ("one", "other"))
    link = mount.path / "allensdk" / LAST_USED
    link.write_text(FIRST)
    run("sh", "-c", f"printf %s {SECOND} > '{link}'")
    mount.umount()
    mount.mount()
    assert seen(link) == {SECOND}
    assert not (other.path / "allensdk" / LAST_USED).exists()
    assert len(os.listdir(tmp_path / "cache" / "allensdk")) <= 3  # the text, and drafts of threads that are alive


def test_sixteen_processes_never_find_it_empty(link: Path) -> None:
    """Sixteen processes that read and write the file as AllenSDK does find the version that was loaded last.

    They never find another version: the newest, which AllenSDK takes for what is empty, is not among those written.
    While they load different ones, each finds one of these. It is done for three versions one after the other.
    """
    newest, *loaded = (FIRST.replace("0.1.0", version) for version in ("0.5.0", "0.1.0", "0.4.0", "0.3.0"))
    lines = run(sys.executable, STARTS, link, "10", newest, *loaded)
    assert lines[:-1] == loaded
    assert lines[-1].split(" ") == sorted(loaded[-2:])


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
        for command in (f"printf %s {FIRST} > {LAST_USED}", f": > {LAST_USED}", f"test $(cat {LAST_USED}) = {FIRST}"):
            subprocess.run(["sh", "-c", command], cwd=link.parent, user=nobody.pw_uid, check=True)
        assert not link.exists()
        assert os.readlink(link) == own
