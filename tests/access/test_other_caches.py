"""Whose caches are read: root's, our own, those of users who are named; and none that others could change."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.config.examples import plain
from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.opening import make_cache
from vbnfs.access.other_caches import unusable_caches
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestStore
from vbnfs.config.settings import Config
from vbnfs.errors import CacheError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion

NOBODY, DAEMON = 65534, 1
CONTENT = Content("aa11", 5, ObjectVersion("key", "v1"))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can pass."""
    path = Path(tempfile.mkdtemp(prefix="vbnfs-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def lab(place: Path, *, owner: int = 0) -> Path:
    """A cache with a file in it, that everybody can read."""
    cache = place / "lab"
    cache.mkdir(mode=0o700)
    assert BlockCache(cache, scope="aws", metrics=Metrics()).put(CONTENT, 0, b"bytes")
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(path, owner, owner)
    return cache


def config_of(place: Path, *caches: Path) -> Config:
    own = place / "own"
    own.mkdir(mode=0o700, exist_ok=True)
    os.chown(own, NOBODY, NOBODY)
    return replace(plain(cache_dir=str(own)), cache_also=caches)


def read(config: Config) -> bytes | None:
    found = make_cache(config, Metrics(), DigestStore(config.cache_dir)).read(CONTENT, ByteRange(0, 5))
    return None if found is None else bytes(found)


@pytest.mark.root
def test_a_cache_of_root_is_read_by_a_user(place: Path) -> None:
    """An ordinary user reads what root has cached for all, and can change nothing there."""
    config = config_of(place, lab(place))
    with as_user(NOBODY):
        assert read(config) == b"bytes"
        assert unusable_caches(config) == []


@pytest.mark.root
def test_a_cache_of_a_named_user(place: Path) -> None:
    """Another user's is refused with the remedy, and read when that user is named."""
    config = config_of(place, lab(place, owner=DAEMON))
    with as_user(NOBODY):
        with pytest.raises(CacheError, match=r"belongs to daemon, .* name its owner by --trusted-users"):
            read(config)
        assert read(replace(config, trusted_users=("daemon",))) == b"bytes"
        with pytest.raises(CacheError, match="--trusted-users no-such-user: no such user"):
            read(replace(config, trusted_users=("no-such-user",)))


def writable(cache: Path) -> None:
    cache.chmod(0o777)


def replaceable(cache: Path) -> None:
    cache.parent.chmod(0o777)


def link_of_another(cache: Path) -> None:
    cache.rename(cache.with_name("real"))
    cache.symlink_to("real")
    os.chown(cache, DAEMON, DAEMON, follow_symlinks=False)


@pytest.mark.root
@pytest.mark.parametrize("change", [writable, replaceable, link_of_another])
def test_a_cache_that_others_could_change_is_refused(place: Path, change: Callable[[Path], None]) -> None:
    """A folder that others can write or replace, or a link that another user made, is refused with the reason."""
    cache = lab(place)
    change(cache)
    config = config_of(place, cache)
    with as_user(NOBODY), pytest.raises(CacheError, match="--cache-also: cache directory"):
        read(config)


@pytest.mark.root
@pytest.mark.parametrize("name", ["data", "checksums", "aa11", "aa", "partial", "aws", "blocks-v2"])
@pytest.mark.parametrize("is_link", [True, False])
def test_nothing_of_others_in_it_is_read(place: Path, name: str, is_link: bool) -> None:
    """A link, or a file or folder of another user, anywhere in it: a miss, and no byte of it is read."""
    cache = lab(place)
    [path] = cache.rglob(name)
    if is_link:
        path.rename(place / "elsewhere")
        path.symlink_to(place / "elsewhere")
    else:
        os.chown(path, DAEMON, DAEMON)
    config = config_of(place, cache)
    with as_user(NOBODY):
        assert read(config) is None


@pytest.mark.root
def test_a_cache_below_a_folder_of_another_user(place: Path) -> None:
    """The message names the user, and the setting by which that user is believed."""
    home = place / "home"
    home.mkdir()
    config = config_of(place, lab(home, owner=DAEMON))
    os.chown(home, DAEMON, DAEMON)
    with as_user(NOBODY), pytest.raises(CacheError, match=r"to daemon, .* name that user by --trusted-users$"):
        read(config)


@pytest.mark.root
def test_a_cache_of_others_as_ones_own(place: Path) -> None:
    """Who names a lab's cache by --cache-dir hears which setting reads it."""
    config = plain(cache_dir=str(lab(place)))
    with as_user(NOBODY), pytest.raises(CacheError, match=r"must be yours .* is read by --cache-also$"):
        prepare_cache_directory(config.cache_dir)


@pytest.mark.root
def test_a_cache_that_you_may_not_read(place: Path) -> None:
    """The warning says what its owner has to do."""
    config = config_of(place, cache := lab(place))
    cache.chmod(0o700)
    with as_user(NOBODY):
        [problem] = unusable_caches(config)
    assert "you may not read it: its owner allows it by 'chmod -R a+rX'" in problem


@pytest.mark.root
def test_a_cache_that_comes_later(place: Path) -> None:
    """One that is not there is no error: it is named, and read as soon as it is there."""
    config = config_of(place, place / "lab")
    (place / "nothing").mkdir()
    with as_user(NOBODY):
        cache = make_cache(config, Metrics(), DigestStore(config.cache_dir))
        assert cache.read(CONTENT, ByteRange(0, 5)) is None
        assert unusable_caches(config) == [
            f"--cache-also {place / 'lab'}: No such file or directory; reads go on without it until it is there"
        ]
        [problem] = unusable_caches(replace(config, cache_also=(place / "nothing",)))
        assert "no cache of vbnfs: it has no folder blocks-v2" in problem
    lab(place)
    with as_user(NOBODY):
        cache.forget_deleted()
        assert cache.read(CONTENT, ByteRange(0, 5)) == b"bytes"
