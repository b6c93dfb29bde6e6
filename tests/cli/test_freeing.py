"""`vbnfs clean PATH...`, `--dataset-version`, `--all`: what is named goes, all else stays, and so does the size."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs, until
from vbnfs.access.opening import mirror_scope_of, scope_at
from vbnfs.cache.content_folder import DATA, FORMAT
from vbnfs.cache.eviction import store_size, stored_size
from vbnfs.cli.render import files

MIB = 1 << 20
SESSION = "ecephys_sessions/ecephys_session_{}.nwb"
OLD, CHANGED, BOTH, NEW = (SESSION.format(n) for n in range(1, 5))
MIRROR_SCOPE = mirror_scope_of("http://mirror", "us-west-2", "lab-copy")
SIZES = {1: 1 * MIB, 2: 2 * MIB, 3: 3 * MIB, 4: 4 * MIB}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A server of two versions: one session is in both, one changed, one is gone, one is new."""
    dataset = FakeDataset()
    both = {BOTH: Pattern(SIZES[3], seed=3)}
    dataset.publish("0.1.0", {OLD: Pattern(SIZES[1], seed=1), CHANGED: Pattern(SIZES[2], seed=2), **both})
    dataset.publish("0.2.0", {CHANGED: Pattern(SIZES[2] + 1, seed=5), NEW: Pattern(SIZES[4], seed=4), **both})
    with FakeS3Server(dataset.store) as server:
        yield server


@pytest.fixture(scope="module")
def fetched(server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with all of both versions, and a size of its own."""
    path = tmp_path_factory.mktemp("fetched") / "cache"
    env = {"VBNFS_CACHE_DIR": str(path), "VBNFS_ENDPOINT_URL": server.endpoint_url}
    assert run_vbnfs("verify", "--fetch", "0.1.0", "0.2.0", env=env).returncode == 0
    store_size(path, 1 << 30)
    return path


@pytest.fixture
def cache(server: FakeS3Server, fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    shutil.copytree(fetched, tmp_path / "cache")
    return tmp_path / "cache"


def lengths(cache: Path) -> list[int]:
    """Of the files that are cached."""
    return sorted(path.stat().st_size for path in cache.rglob(DATA))


ALL = sorted([*SIZES.values(), SIZES[2] + 1])


@pytest.mark.parametrize(
    ("arguments", "freed"),
    [
        ([BOTH], [SIZES[3]]),  # a file that both versions have: it is named
        ([CHANGED], [SIZES[2] + 1]),  # the newest version's
        ([f"manifests/v0.1.0/{CHANGED}", OLD.replace("1", "4")], [SIZES[2], SIZES[4]]),
        (["ecephys_sessions"], [SIZES[2] + 1, SIZES[3], SIZES[4]]),  # a folder of the newest version
        (["."], ALL),
        (["0.1.0"], [SIZES[1], SIZES[2]]),
        (["manifests/v0.1.0"], [SIZES[1], SIZES[2]]),
        (["manifests/latest"], [SIZES[2] + 1, SIZES[4]]),
        (["--dataset-version", "v0.2.0"], [SIZES[2] + 1, SIZES[4]]),
        (["--dataset-version", "0.1.0", "--dataset-version", "0.2.0"], ALL),
        (["--dataset-version", "0.1.0", BOTH], [SIZES[1], SIZES[2], SIZES[3]]),
        (["--all"], ALL),
    ],
)
def test_what_is_named_goes(server: FakeS3Server, cache: Path, arguments: list[str], freed: list[int]) -> None:
    """And nothing else; the server is not asked, and the cache has the size that it had."""
    asked = len(server.requests)
    tried = run_vbnfs("clean", "--dry-run", *arguments)
    assert (tried.returncode, lengths(cache)) == (0, ALL)
    assert len(tried.stdout.splitlines()) == len(freed) + 1
    assert f"; {files(len(freed))}, " in tried.stdout
    assert tried.stdout.endswith(" would be freed\n")
    done = run_vbnfs("clean", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"of 1.0 GiB; {files(len(freed))}, " in done.stdout
    left = list(ALL)
    for one in freed:
        left.remove(one)
    assert lengths(cache) == left
    assert stored_size(cache, 0) == 1 << 30
    assert len(server.requests) == asked


def test_what_other_versions_have_is_counted(cache: Path) -> None:
    """Freeing a version leaves what is shared, and says how much that is."""
    done = run_vbnfs("clean", "0.1.0")
    assert "1 file, 3.0 MiB: other versions have that, too, so it stays; 'vbnfs clean PATH' frees" in done.stderr


def test_what_a_mirror_sent_goes_too(server: FakeS3Server, cache: Path) -> None:
    """As long as it is not proven, it is the mirror's; with another mirror, or without, it is another dataset's."""
    sent, of_mirror = (cache / FORMAT / scope for scope in (scope_at(server.endpoint_url, "us-west-2"), MIRROR_SCOPE))
    sent.rename(of_mirror)
    assert run_vbnfs("clean", BOTH).returncode == 0
    assert lengths(cache) == ALL
    assert run_vbnfs("clean", BOTH, "--mirror", "endpoint_url=http://mirror bucket=lab-copy").returncode == 0
    assert SIZES[3] not in lengths(cache)


def test_paths_in_a_mount(mounts: Mounts, server: FakeS3Server, cache: Path) -> None:
    """They name the mount's dataset and cache. The mount goes on, and fetches again what is read again."""
    mount = mounts(server.endpoint_url)
    with (mount.path / BOTH).open("rb") as file:
        assert len(file.read()) == SIZES[3]
        done = run_vbnfs("clean", mount.path / BOTH, env={"VBNFS_CACHE_DIR": "", "VBNFS_ENDPOINT_URL": ""})
        assert done.returncode == 0, done.stderr
        assert SIZES[3] not in lengths(cache)
        file.seek(0)
        assert len(file.read()) == SIZES[3]
    until(lambda: int(os.getxattr(mount.path / BOTH, "user.vbnfs.cached")) < SIZES[3])
    os.posix_fadvise(descriptor := os.open(mount.path / BOTH, os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert len((mount.path / BOTH).read_bytes()) == SIZES[3]
    mount.umount()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--all", BOTH], 2, "--all frees every file"),
        (["--all", "--cache-size", "1M"], 2, "freeing leaves the cache's size"),
        (["--all", "--convert"], 2, "run them by themselves"),
        (["--dataset-version", "7"], 1, "there is no dataset version 7"),
        (["no/such/file"], 1, "not in the dataset"),
        (["/etc/passwd"], 1, "not in a vbnfs mount"),
    ],
)
def test_what_cannot_be_freed(cache: Path, arguments: list[str], status: int, message: str) -> None:
    """It is refused, with the remedy, and nothing goes."""
    done = run_vbnfs("clean", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert lengths(cache) == ALL


def test_no_cache(tmp_path: Path) -> None:
    """Freeing all of nothing is done, and makes nothing."""
    done = run_vbnfs("clean", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "cache").exists()
