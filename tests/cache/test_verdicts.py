"""Verdicts on whole files, shared by processes: refusing never ends by accident, and no good bytes are condemned."""

import fcntl
import os
import resource
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import verdicts as verdicts_module
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.verdict import Verdict, fingerprint_of
from vbnfs.cache.verdicts import Verdicts
from vbnfs.errors import HashMismatchError
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion

RIGHT = "0" * 128
CONTENT = Content("ab12", 2 * BLOCK_BYTES, ObjectVersion("key", "version"), RIGHT)
OTHER = Content("cd34", 1, ObjectVersion("other", "version"), RIGHT)
BAD = Verdict("1" * 128, "fingerprint", "now", 2)


def refused(verdicts: Verdicts, content: Content = CONTENT) -> bool:
    try:
        verdicts.refuse(content)
    except HashMismatchError:
        return True
    return False


@pytest.fixture
def known(tmp_path: Path) -> Verdicts:
    """The verdicts of a process that knows of a file that is bad."""
    Verdicts(tmp_path, scope="aws").keep(CONTENT, BAD)
    verdicts = Verdicts(tmp_path, scope="aws")
    assert verdicts.refresh() == {"ab12"}
    return verdicts


def bad_folder(directory: Path) -> Path:
    return directory / "verified-v1" / "aws" / "bad"


def test_without_descriptors_what_was_refused_stays_refused(known: Verdicts) -> None:
    """Reading the disk with no file left to open (EMFILE) forgets nothing; the next one sees again."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    for spare in range(8):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, limits[1]))
        try:
            known.refresh()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert refused(known)
    assert known.refresh() == set()
    assert refused(known)


@pytest.mark.root
@pytest.mark.parametrize("hidden", ["folder", "file"])
def test_what_cannot_be_read_stays_refused(known: Verdicts, tmp_path: Path, hidden: str) -> None:
    """Where the disk gives no answer (here EACCES), what is known holds; a new file in the folder refuses, too."""
    Verdicts(tmp_path, scope="aws").keep(OTHER, BAD)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    (bad_folder(tmp_path) if hidden == "folder" else bad_folder(tmp_path) / "ab12").chmod(0o600)
    (bad_folder(tmp_path) / "cd34").chmod(0o600)
    os.seteuid(65534)
    try:
        fresh = known.refresh()
        assert refused(known)
    finally:
        os.seteuid(0)
    assert fresh == (set() if hidden == "folder" else {"cd34"})
    bad_folder(tmp_path).chmod(0o700)
    (bad_folder(tmp_path) / "ab12").unlink()
    known.refresh()
    assert not refused(known)


def test_a_folder_that_is_no_folder_any_more(known: Verdicts, tmp_path: Path) -> None:
    """Something else in its place says nothing in favour of what was refused; that it is gone does."""
    shutil.rmtree(bad_folder(tmp_path))
    bad_folder(tmp_path).touch()
    assert known.refresh() == set()
    assert refused(known)
    bad_folder(tmp_path).unlink()
    known.refresh()
    assert not refused(known)


@pytest.mark.parametrize("text", ["", "{", '{"found_hash": "1"}', "\xff"])
def test_a_torn_verdict_refuses_until_it_is_judged_anew(tmp_path: Path, text: str) -> None:
    """It was one against the file. It counts as one mismatch, so that the file is fetched once more."""
    bad_folder(tmp_path).mkdir(parents=True)
    (bad_folder(tmp_path) / "ab12").write_text(text, encoding="latin-1")
    verdicts = Verdicts(tmp_path, scope="aws")
    assert verdicts.refresh() == {"ab12"}
    bad = verdicts.bad(CONTENT)
    assert bad is not None
    assert bad.mismatches == 1
    with pytest.raises(HashMismatchError, match="cannot be read; 'vbnfs verify --fetch FILE' judges anew"):
        verdicts.refuse(CONTENT)
    cache = BlockCache(tmp_path, scope="aws", metrics=Metrics())
    good = Verdict(RIGHT, "fingerprint", "now")
    assert verdicts.judge(CONTENT, good, before=verdicts.last(CONTENT), cache=cache) == good
    assert not refused(verdicts)
    assert verdicts.refresh() == set()


def test_a_lock_that_is_not_given_back_is_waited_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs while it judges keeps the others from it for a moment only."""
    monkeypatch.setattr(verdicts_module, "_LOCK_SECONDS", 0.1)
    verdicts = Verdicts(tmp_path, scope="aws")
    cache = BlockCache(tmp_path, scope="aws", metrics=Metrics())
    (tmp_path / "verified-v1" / "aws").mkdir(parents=True)
    with open(tmp_path / "verified-v1" / "aws" / ".judging", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        verdict = verdicts.judge(CONTENT, BAD, before=None, cache=cache)
    assert verdict is not None
    assert refused(verdicts)


def test_who_judges_waits_for_who_is_judging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process does while it has the lock counts: bytes that it fetched meanwhile are not deleted."""
    verdicts = Verdicts(tmp_path, scope="aws")
    cache = BlockCache(tmp_path, scope="aws", metrics=Metrics())
    cache.put(CONTENT, 0, b"w" * BLOCK_BYTES, b"w" * BLOCK_BYTES)
    hashed = fingerprint_of(cache.records(CONTENT))
    assert hashed is not None
    (tmp_path / "verified-v1" / "aws").mkdir(parents=True)
    waits = threading.Event()
    monkeypatch.setattr(verdicts_module, "_LOCK_SECONDS", 60.0)
    monkeypatch.setattr(time, "sleep", lambda _: waits.set())
    with ThreadPoolExecutor() as pool:
        with open(tmp_path / "verified-v1" / "aws" / ".judging", "w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            verdict = pool.submit(verdicts.judge, CONTENT, replace(BAD, fingerprint=hashed), before=None, cache=cache)
            assert waits.wait(20)
            writing = BlockCache(tmp_path, scope="aws", metrics=Metrics())
            writing.drop(CONTENT)
            writing.put(CONTENT, 0, b"r" * BLOCK_BYTES, b"r" * BLOCK_BYTES)
        assert verdict.result(20) is None
    assert writing.cached_bytes(CONTENT) == CONTENT.size_bytes
    assert not refused(verdicts)


def test_a_seal_is_kept_with_the_verdict_that_it_is_about(tmp_path: Path) -> None:
    """It changes nothing else of the verdict, and is not given to one that another has followed."""
    verdicts = Verdicts(tmp_path, scope="test")
    verdict = Verdict(RIGHT, "f1", "then")
    verdicts.keep(CONTENT, verdict)
    verdicts.store_seal(CONTENT, verdict, "1 2 3")
    kept = verdicts.good(CONTENT)
    assert kept is not None
    assert (kept, kept.seal) == (verdict, "1 2 3")
    verdicts.keep(CONTENT, Verdict("00", "f2", "later", 1))
    verdicts.store_seal(CONTENT, verdict, "4 5 6")
    assert verdicts.good(CONTENT) is None
    assert refused(verdicts)


def test_without_locks_it_is_judged(tmp_path: Path) -> None:
    """Where there can be no lock (here: a link in its place) verdicts are given as well."""
    (tmp_path / "verified-v1" / "aws").mkdir(parents=True)
    (tmp_path / "verified-v1" / "aws" / ".judging").symlink_to("/nonexistent")
    verdicts = Verdicts(tmp_path, scope="aws")
    cache = BlockCache(tmp_path, scope="aws", metrics=Metrics())
    assert verdicts.judge(CONTENT, BAD, before=None, cache=cache) is not None
    assert refused(verdicts)


# Several processes


@dataclass
class Hashed:
    """What a process has hashed and not judged yet."""

    letter: bytes
    fingerprint: str
    before: Verdict | None


class Judging(RuleBasedStateMachine):
    """Three processes that fetch, hash, judge and evict a file of two blocks, in any order.

    A server sends letters; only b"r" is what was released.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.caches = [BlockCache(self.directory, scope="aws", metrics=Metrics()) for _ in range(3)]
        self.verdicts = [Verdicts(self.directory, scope="aws") for _ in range(3)]
        self.hashed: dict[int, Hashed] = {}
        self.count = 0

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def there(self) -> bytes | None:
        """The letter of the blocks on the disk, if they are complete, and of one fetch."""
        cache = BlockCache(self.directory, scope="aws", metrics=Metrics())
        letters = {cache.checked_block(CONTENT, index) for index in range(2)}
        [block] = letters if len(letters) == 1 else [None]
        return None if block is None else block[:1]

    @rule(process=st.integers(0, 2), letter=st.sampled_from([b"r", b"w", b"x"]))
    def fetch(self, process: int, letter: bytes) -> None:
        if self.there() is None:
            cache = self.caches[process]
            cache.drop(CONTENT)
            cache.put(CONTENT, 0, letter * BLOCK_BYTES, letter * BLOCK_BYTES)

    @rule(process=st.integers(0, 2))
    def evict(self, process: int) -> None:
        self.caches[process].drop(CONTENT)

    @rule(process=st.integers(0, 2))
    def hash(self, process: int) -> None:
        before, cache = self.verdicts[process].last(CONTENT), self.caches[process]
        blocks = [cache.checked_block(CONTENT, index) for index in range(2)]
        fingerprint = fingerprint_of(cache.records(CONTENT))
        if fingerprint is not None and blocks[0] is not None:
            self.hashed[process] = Hashed(blocks[0][:1], fingerprint, before)

    @precondition(lambda self: bool(self.hashed))
    @rule(data=st.data())
    def judge(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(sorted(self.hashed)))
        hashed, there = self.hashed.pop(process), self.there()
        self.count += 1
        found = Verdict(RIGHT if hashed.letter == b"r" else "1" * 128, hashed.fingerprint, str(self.count))
        last = self.verdicts[process].last(CONTENT)
        result = self.verdicts[process].judge(CONTENT, found, before=hashed.before, cache=self.caches[process])
        fresh = Verdicts(self.directory, scope="aws")
        fresh.refresh()
        assert refused(fresh) == refused(self.verdicts[process])
        if there is not None and there != hashed.letter:
            assert self.there() == there, "bytes that were not hashed were deleted"
            assert fresh.last(CONTENT) == last, "and judged"
        elif there is not None:
            assert result is not None
            assert refused(fresh) == (hashed.letter != b"r")
            assert self.there() == (b"r" if hashed.letter == b"r" else None)
        elif last != hashed.before:
            assert fresh.last(CONTENT) == last, "older bytes took the place of a newer verdict"
        else:
            assert refused(fresh) == (hashed.letter != b"r")


TestJudging = Judging.TestCase
TestJudging.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
