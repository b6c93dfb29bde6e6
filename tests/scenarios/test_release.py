"""A genuine release on a real S3 server, mounted: what every user relies on."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.fakes.relay import Relay
from tests.fixtures_mount import Mount, Mounts, run_vbnfs
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease

pytestmark = pytest.mark.usefixtures("engine")


def blake2b(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()


def check_all_files(mount: Mount, release: DemoRelease) -> int:
    """Compare every file of every version with its manifest entry; return how many there are."""
    count = 0
    for version, files in release.files.items():
        for path, file in files.items():
            mounted = mount.path / "manifests" / f"v{version}" / path
            assert mounted.stat().st_size == file.size_bytes
            assert blake2b(mounted) == file.file_hash, mounted
            count += 1
    return count


@pytest.fixture
def mount(mounts: Mounts, seaweed: SeaweedServer, tiny_release: DemoRelease) -> Mount:
    """The tiny release, mounted with a cold cache."""
    return mounts(seaweed.endpoint_url)


def test_every_byte_cold_warm_and_offline(mounts: Mounts, seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Every file of every version has its manifest's hash: cold, warm, and remounted with the server stopped."""
    with Relay(seaweed.endpoint_url) as relay:
        mount = mounts(relay.endpoint_url)
        assert check_all_files(mount, tiny_release) > 20
        cold = mount.range_requests()
        assert check_all_files(mount, tiny_release) > 20
        assert mount.range_requests() == cold
        mount.umount()
    mount.mount()
    assert "cannot be reached" in mount.warnings
    assert check_all_files(mount, tiny_release) > 20
    assert mount.range_requests() == 0


def test_manifest_is_there_byte_for_byte(mount: Mount, seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Each version's folder has the manifest JSON under its own name, byte for byte."""
    for version in tiny_release.versions:
        key = tiny_release.manifest_key(version)
        original = seaweed.client().get_object(Bucket=tiny_release.bucket, Key=key)["Body"].read()
        mounted = mount.path / "manifests" / f"v{version}" / key.rpartition("/")[2]
        assert mounted.read_bytes() == original
        assert json.loads(original)["manifest_version"] == version


def test_layout_of_the_top(mount: Mount, tiny_release: DemoRelease) -> None:
    """At the top stand README.txt, manifests, and real folders of the newest version; latest leads to it."""
    newest = tiny_release.versions[-1]
    folders = {path.partition("/")[0] for path in tiny_release.files[newest]}
    assert set(os.listdir(mount.path)) == folders | {"README.txt", "allensdk", "by", "manifests", "ecephys_sessions"}
    assert not any((mount.path / folder).is_symlink() for folder in folders)
    assert os.readlink(mount.path / "manifests" / "latest") == f"v{newest}"
    versions = {f"v{version}" for version in tiny_release.versions}
    assert set(os.listdir(mount.path / "manifests")) == versions | {"latest"}
    assert newest in (mount.path / "README.txt").read_text()


def test_flat_sessions_in_every_version(mount: Mount, tiny_release: DemoRelease) -> None:
    """`ecephys_sessions/ecephys_session_<id>.nwb` is there in every version and is the version's own file."""
    for version, files in tiny_release.files.items():
        sessions = {p.rpartition("/")[2]: f for p, f in files.items() if "/ecephys_session_" in p}
        flat = mount.path / "manifests" / f"v{version}" / "ecephys_sessions"
        assert set(os.listdir(flat)) == set(sessions)
        assert all(os.getxattr(flat / n, "user.vbnfs.file_hash").decode() == f.file_hash for n, f in sessions.items())


def test_read_once_in_any_version(mount: Mount, tiny_release: DemoRelease) -> None:
    """A file read in one version is read under its other names, versions and version ids with no request."""
    names: dict[str, list[Path]] = {}
    version_ids: dict[str, set[str]] = {}
    for version, files in tiny_release.files.items():
        for path, file in files.items():
            names.setdefault(file.file_hash, []).append(mount.path / "manifests" / f"v{version}" / path)
            version_ids.setdefault(file.file_hash, set()).add(file.version_id)
    assert any(len(ids) > 1 for ids in version_ids.values()), "the release has a file that was uploaded anew"
    renamed = [paths for paths in names.values() if len({str(p).partition("/v")[2][6:] for p in paths}) > 1]
    assert renamed, "the release has a renamed file"
    for file_hash, paths in names.items():
        assert blake2b(paths[0]) == file_hash
    before = mount.range_requests()
    for file_hash, paths in names.items():
        assert {blake2b(path) for path in paths} == {file_hash}
        assert len({path.stat().st_ino for path in paths}) == 1
        assert paths[0].stat().st_nlink >= len(paths)
    assert mount.range_requests() == before


def test_everything_is_read_only(mount: Mount) -> None:
    """Creating, writing, renaming, deleting, chmod and setxattr fail with EROFS."""
    path = mount.path / "README.txt"
    script = f"""
import errno, os
attempts = [
    lambda: open({str(path)!r}, "r+b"), lambda: open({str(mount.path / "new")!r}, "wb"),
    lambda: os.unlink({str(path)!r}), lambda: os.rename({str(path)!r}, {str(mount.path / "b")!r}),
    lambda: os.mkdir({str(mount.path / "d")!r}), lambda: os.chmod({str(path)!r}, 0o777),
    lambda: os.utime({str(path)!r}), lambda: os.truncate({str(path)!r}, 0),
    lambda: os.setxattr({str(path)!r}, "user.x", b""), lambda: os.symlink("a", {str(mount.path / "l")!r}),
    lambda: os.link({str(path)!r}, {str(mount.path / "h")!r}),
]
for attempt in attempts:
    try:
        attempt()
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
    done = subprocess.run(["python3", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["EROFS"] * 11


def test_provenance(mount: Mount, seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Attributes give a file's URL, which fetches it, its ids and versions; others what is cached, and verified."""
    version = tiny_release.versions[-1]
    path, file = next((p, f) for p, f in tiny_release.files[version].items() if p.endswith("units.csv"))
    mounted = mount.path / path

    def attribute(name: str) -> str:
        return os.getxattr(mounted, f"user.vbnfs.{name}").decode()

    names = {"url", "version_id", "file_hash", "dataset_versions"}
    assert set(os.listxattr(mounted)) == {f"user.vbnfs.{name}" for name in names}
    assert attribute("url").startswith(f"{seaweed.endpoint_url}/")
    assert attribute("url").endswith(f"/{path}?versionId={file.version_id}")
    with urlopen(attribute("url")) as reply:
        assert hashlib.blake2b(reply.read()).hexdigest() == file.file_hash
    assert attribute("version_id") == file.version_id
    assert attribute("file_hash") == file.file_hash
    assert attribute("dataset_versions") == version
    assert attribute("cached") == "0"
    assert attribute("verified").startswith("no: ")
    assert attribute("read_by").startswith("daemon: ")
    mounted.read_bytes()
    assert attribute("cached") == str(file.size_bytes)
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(mounted, "user.vbnfs.nothing")
    mounted = mount.path / "manifests" / f"v{version}" / tiny_release.manifest_key(version).rpartition("/")[2]
    with urlopen(attribute("url")) as reply:
        assert reply.read() == mounted.read_bytes()
    assert attribute("file_hash") == blake2b(mounted)
    assert attribute("dataset_versions") == version
    assert attribute("cached") == str(mounted.stat().st_size)


def test_pinned_version_stands_at_the_top(
    mounts: Mounts, seaweed: SeaweedServer, tiny_release: DemoRelease, tmp_path: Path
) -> None:
    """--dataset-version puts an older version at the top; an unknown one is refused and the known ones are named."""
    old = tiny_release.versions[0]
    mount = mounts(seaweed.endpoint_url, "--dataset-version", old)
    assert {"behavior_only_sessions"}.isdisjoint(os.listdir(mount.path))
    assert os.readlink(mount.path / "manifests" / "latest") == f"v{old}"
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run_vbnfs("mount", "--endpoint-url", seaweed.endpoint_url, "--dataset-version", "9.9.9", empty)
    assert done.returncode == 1
    assert "9.9.9" in done.stderr
    assert old in done.stderr


def test_inodes_sizes_and_times_do_not_depend_on_the_mount(
    mounts: Mounts, seaweed: SeaweedServer, tiny_release: DemoRelease, tmp_path: Path
) -> None:
    """Two mounts with caches of their own show the same inode numbers, sizes, links and times."""
    listings = []
    for name in ("a", "b"):
        mount = mounts(seaweed.endpoint_url, "--cache-dir", tmp_path / f"cache-{name}", name=name)
        find = ["find", ".", "-printf", "%P %i %s %n %T@ %m %l\n"]
        listings.append(subprocess.run(find, cwd=mount.path, capture_output=True, check=True).stdout)
    assert listings[0] == listings[1]
    assert listings[0].count(b"\n") > 50
