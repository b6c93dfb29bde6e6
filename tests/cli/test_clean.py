"""`vbnfs clean`: caches within their sizes, leftovers gone."""

import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.config.examples import plain
from tests.fakes.disks import memory_disk
from tests.fixtures_mount import run_vbnfs
from vbnfs.cache.content_folder import CHECKSUMS, DATA, FORMAT
from vbnfs.cache.eviction import store_size
from vbnfs.cli import clean as cleaning
from vbnfs.host.places import Place

MIB = 1 << 20


def content(cache: Path, name: str, size_bytes: int, *, age_seconds: float) -> Path:
    """A folder as the cache has them, that takes so much on the disk, with itself and 4 KiB of checksums."""
    path = cache / FORMAT / "aws" / "whole" / "00" / name
    path.mkdir(parents=True, exist_ok=True)
    (path / DATA).write_bytes(b"x" * max(0, size_bytes - 4096 - path.stat().st_blocks * 512))
    (path / CHECKSUMS).write_bytes(b"x" * 4096)
    aged(path / CHECKSUMS, age_seconds)
    return path


def aged(path: Path, age_seconds: float) -> Path:
    used = time.time() - age_seconds
    os.utime(path, (used, used))
    return path


def test_a_cache_that_is_too_large(tmp_path: Path) -> None:
    """The least recently used files go until the rest keeps within the size; the result is printed."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    files = [content(cache, f"{n:032}", MIB, age_seconds=10 - n) for n in range(4)]
    done = run_vbnfs("clean", "--cache-size", "3M")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{cache}  2.0 MiB of 3.0 MiB; 2 files, 2.0 MiB freed\n"
    assert [file.exists() for file in files] == [False, False, True, True]


@pytest.mark.parametrize("is_in_folder", [False, True])
def test_a_dry_run(tmp_path: Path, is_in_folder: bool) -> None:
    """It lists what would be deleted, and what that takes. Nothing is changed, and no size is stored."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    files = [content(cache, f"{n:032}", MIB, age_seconds=10 - n) for n in range(4)]
    (tmp_path / "one.toml").write_text('cache_size = "3M"')
    arguments = ["--config-folder", str(tmp_path)] if is_in_folder else ["--cache-size", "3M"]
    tried = run_vbnfs("clean", "--dry-run", *arguments)
    assert (tried.returncode, tried.stderr) == (0, "")
    names = [str(file.relative_to(cache)) for file in files]
    assert tried.stdout.splitlines() == [
        *(f"   1.0 MiB  {name}" for name in names[:2]),
        f"{cache}  4.0 MiB of 3.0 MiB; 2 files, 2.0 MiB would be freed",
    ]
    assert all(file.exists() for file in files)
    assert run_vbnfs("clean", "--dry-run").stdout == f"{cache}  4.0 MiB of 100.0 GiB; 0 files, 0 B would be freed\n"
    assert "2 files, 2.0 MiB freed" in run_vbnfs("clean", *arguments).stdout


def test_what_a_mount_deletes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount learns of a smaller size at once, and may be the first to delete: that counts as freed, too."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    files = [content(cache, f"{n:032}", MIB, age_seconds=10 - n) for n in range(4)]

    def store_and_delete(directory: Place, size_bytes: int) -> None:
        store_size(directory, size_bytes)
        shutil.rmtree(files[0])

    monkeypatch.setattr(cleaning, "keep_others_out", lambda: None)  # the umask of the tests stays
    monkeypatch.setattr(cleaning, "store_size", store_and_delete)
    done = cleaning.clean(plain(cache_dir=str(cache), cache_size="2M"))
    assert (done.deleted_files, done.freed_bytes, done.usage_bytes) == (3, 3 * MIB, MIB)


def test_a_cache_that_cannot_be_made_smaller(tmp_path: Path) -> None:
    """While another process has the only right to delete, nothing is: said with status 1, and done the next time."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    file = content(cache, "00", 2 * MIB, age_seconds=1)
    with (cache / FORMAT / ".evicting").open("w") as evicting:
        fcntl.flock(evicting, fcntl.LOCK_EX)
        done = run_vbnfs("clean", "--cache-size", "1M")
        assert (done.returncode, done.stdout) == (1, "")
        assert "still 2.0 MiB of 1.0 MiB" in done.stderr
    assert file.exists()
    assert run_vbnfs("clean").returncode == 0
    assert not file.exists()


def test_where_pins_cannot_be_read(tmp_path: Path) -> None:
    """Nothing is deleted, because it may be pinned: said with status 1 and the remedy, in every form."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    file = content(cache, "00", 2 * MIB, age_seconds=1)
    (cache / "pins-v1").write_text("")
    for arguments in (["--all"], ["--cache-size", "1M"], ["--cache-size", "1M", "--dry-run"]):
        done = run_vbnfs("clean", *arguments)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert "pins cannot be read: Not a directory, so nothing is deleted: make the folder pins-v1" in done.stderr
        assert file.exists()


@pytest.mark.root
def test_a_size_that_cannot_be_kept(tmp_path: Path) -> None:
    """On a disk that takes no file the size would be forgotten at once: said with status 1."""
    cache = tmp_path / "cache"
    with memory_disk(cache, "nr_inodes=2"):
        (cache / FORMAT).mkdir(mode=0o700)
        done = run_vbnfs("clean", "--cache-size", "1M")
    assert (done.returncode, done.stdout) == (1, "")
    assert "1.0 MiB cannot be kept" in done.stderr


def test_leftovers_of_dead_processes(tmp_path: Path) -> None:
    """Temporary files and folders are deleted, however new, unless a process holds a lock on them."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    left, written = (content(cache, f".new-{n}", 10, age_seconds=60) for n in range(2))
    kept = cache / "datasets-v1" / "aws" / "bucket"
    kept.mkdir(parents=True)
    for name, age in ((".left.new", 0), (".written.new", 7200), ("index", 7200)):
        (kept / name).touch()
        aged(kept / name, age)
    folder = os.open(written, os.O_RDONLY)
    with (kept / ".written.new").open() as small:
        fcntl.flock(folder, fcntl.LOCK_EX)
        fcntl.flock(small, fcntl.LOCK_EX)
        assert run_vbnfs("clean").returncode == 0
    os.close(folder)
    assert (left.exists(), written.exists()) == (False, True)
    assert sorted(path.name for path in kept.iterdir()) == [".written.new", "index"]


def test_a_cache_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is made where nothing is, and the line says so: a size that was given is not stored either."""
    done = run_vbnfs("clean")
    assert (done.returncode, "0 B of 100.0 GiB; 0 files, 0 B freed" in done.stdout) == (0, True)
    done = run_vbnfs("clean", "--cache-size", "5G")
    expected = "0 B of 5.0 GiB; 0 files, 0 B freed (no such folder: no size was stored)\n"
    assert done.stdout == f"{tmp_path / 'cache'}  {expected}"
    assert not (tmp_path / "cache").exists()


def test_all_configurations_of_a_folder(tmp_path: Path) -> None:
    """Each TOML file's cache is cleaned; one that cannot be is named, and the others are cleaned all the same."""
    for name in "ab":
        (tmp_path / name).mkdir(mode=0o700)
        content(tmp_path / name, "00", 2 * MIB, age_seconds=1)
        (tmp_path / f"{name}.toml").write_text(f'cache_dir = "{tmp_path / name}"\ncache_size = "1M"')
    (tmp_path / "aa.toml").write_text("nonsense = 1")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "c.toml").write_text(f'cache_dir = "{tmp_path / "open"}"')
    env = {"VBNFS_CACHE_DIR": ""}
    done = run_vbnfs("clean", "--config-folder", tmp_path, env=env)
    assert done.returncode == 2
    assert done.stdout.count("1 file, 2.0 MiB freed") == 2
    assert "aa.toml: no such setting: nonsense" in done.stderr
    assert "writable by you alone" in done.stderr
    assert run_vbnfs("clean", "--config-folder", tmp_path / "a", env=env).stdout == ""


def test_a_folder_of_configurations_that_cannot_be_read(tmp_path: Path) -> None:
    """Who cannot see what there is to be cleaned hears so; where nothing is, nothing is cleaned."""
    (tmp_path / "file").touch()
    done = run_vbnfs("clean", "--config-folder", tmp_path / "file")
    assert (done.returncode, done.stderr) == (2, f"vbnfs: {tmp_path / 'file'}: cannot be read: Not a directory\n")
    done = run_vbnfs("clean", "--config-folder", tmp_path / "none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_configurations_that_share_a_cache(tmp_path: Path) -> None:
    """It is cleaned once, to the largest size that any of them sets; the cache stores that size."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    file = content(cache, "00", 2 * MIB, age_seconds=1)
    for name, line in {"a": "", "b": 'cache_size = "1M"', "c": 'cache_size = "2T"', "d": 'cache_size = "1G"'}.items():
        (tmp_path / f"{name}.toml").write_text(line)
    done = run_vbnfs("clean", "--config-folder", tmp_path)
    assert done.stdout == f"{cache}  2.0 MiB of 2.0 TiB; 0 files, 0 B freed\n"
    assert run_vbnfs("clean").stdout == done.stdout
    assert file.exists()
    assert "2.0 MiB of 4.0 MiB" in run_vbnfs("clean", "--cache-size", "4M").stdout
    assert "2.0 MiB of 4.0 MiB" in run_vbnfs("clean").stdout
