"""Whether the bytes that are kept of a content are the released ones: what was found, kept beside the blocks.

    verified-v1/<scope>/good/<2 hex>/<content id>      hashed, and the same as the manifest's file_hash
    verified-v1/<scope>/bad/<content id>               hashed, and not the same: reads are refused

Each is a line of JSON (verdict.py). A verdict is about the blocks that were hashed, and names them by a fingerprint:
a hash of their checksums in order. It holds as long as blocks with these checksums are kept, whichever process
fetched them; once any other block was written it no longer applies. All of it may be lost: then a file is hashed
again.

Hashing takes minutes, and meanwhile other processes may drop blocks, fetch them anew and judge them. So the process
that has hashed checks the records again before it gives a verdict, under a lock that all processes share
(`.judging`, flock(2)): what is condemned is what was hashed. Where the lock cannot be had within some seconds, or at
all, it checks without.

A disk that fails must not end a refusal: a content is refused until its file in `bad` is known to be gone (ENOENT). A
file that cannot be read changes nothing. A torn file refuses like a whole one, and its content is fetched anew and
judged. Links and files of other users do not count, neither for a content nor against it.
"""

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.verdict import TORN, Verdict, decode, encode, fingerprint_of, is_good, mismatch_text
from vbnfs.errors import HashMismatchError
from vbnfs.host.atomic import replace_file
from vbnfs.host.locks import lock_file
from vbnfs.host.places import Place, folder_at
from vbnfs.objects import Content

log = structlog.get_logger()

FORMAT: Final = "verified-v1"
_LOCK_SECONDS: Final = 2.0  # a process that judges holds the lock for milliseconds
_LOCK_STEP_SECONDS: Final = 0.02
_NOTHING: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.EPERM, errno.EISDIR})  # none, a link, not ours, no file


class Verdicts:
    """The verdicts on what came from `scope`, shared by all processes with this cache directory.

    Methods that read the disk may be called from any thread. `refuse` does not read it: it uses the mismatches that
    were known at the last `refresh`, and this process's own.
    """

    def __init__(self, directory: Path | Place, *, scope: str) -> None:
        self._directory = folder_at(directory) / FORMAT / scope
        self._lock = threading.Lock()  # for changes of what follows
        self._bad: dict[str, Verdict] = {}  # replaced as a whole, never changed
        self._not_kept: dict[str, Verdict] = {}  # those of them that the disk did not take

    def refuse(self, content: Content) -> None:
        """Raise `HashMismatchError` if what S3 sent last for a content was not what was released."""
        verdict = self._bad.get(content.content_id)
        if verdict is not None:
            raise HashMismatchError(mismatch_text(content, verdict))

    def bad(self, content: Content) -> Verdict | None:
        """The verdict for which reads of a content are refused."""
        return self._bad.get(content.content_id)

    def good(self, content: Content) -> Verdict | None:
        """The last verdict in favour of a content. It holds while the blocks have its fingerprint."""
        verdict = _read_if_any(self._good_place(content.content_id))
        return verdict if verdict is not None and is_good(content, verdict) else None

    def last(self, content: Content) -> Verdict | None:
        """The verdict that was given last on a content, by any process."""
        try:
            against = _read(self._bad_place(content.content_id))
        except OSError:
            against = self._bad.get(content.content_id, TORN)
        return against or self._not_kept.get(content.content_id) or self.good(content)

    def judge(
        self, content: Content, verdict: Verdict, *, before: Verdict | None, cache: BlockCache
    ) -> Verdict | None:
        """Give a verdict on what was hashed, if the cache still has that; blocks that it is against are deleted.

        `before` is what `last` returned when hashing began. Returns the verdict that holds now: this one, of which
        the mismatches are counted here, or that of another process. None if the cache has other blocks by now, which
        no process has judged.
        """
        with self._judging():
            cache.forget_deleted()
            last, there = self.last(content), fingerprint_of(cache.records(content))
            if not _still_counts(verdict, there=there, before=before, last=last):
                self._learn(content, last)
                return last if last is not None and last.fingerprint == (there or verdict.fingerprint) else None
            if is_good(content, verdict):
                self.keep(content, verdict)
                return verdict
            # Another process may have judged the same bytes meanwhile: that is not one more fetch that went wrong.
            row = max(1 + _mismatches(before), _mismatches(last))
            verdict = replace(verdict, mismatches=row)
            self.keep(content, verdict)  # refused first, dropped then
            cache.drop(content)
            return verdict

    def store_seal(self, content: Content, verdict: Verdict, seal: str) -> None:
        """Keep with a good verdict, if it is still the last one, the seal of the file that it is about.

        A disk that does not take it is no error.
        """
        with self._judging(), suppress(OSError):
            if verdict.seal != seal and self.last(content) == verdict:
                replace_file(self._good_place(content.content_id), encode(replace(verdict, seal=seal)))

    def keep(self, content: Content, verdict: Verdict) -> None:
        """Publish a verdict: at once here, soon in other processes. A disk that does not take it is no error."""
        with self._lock:
            self._keep(content, verdict)

    def _keep(self, content: Content, verdict: Verdict) -> None:
        content_id = content.content_id
        good, bad = self._good_place(content_id), self._bad_place(content_id)
        self._remember(content, verdict)
        write, remove = (good, bad) if is_good(content, verdict) else (bad, good)
        self._not_kept.pop(content_id, None)
        with suppress(OSError):
            remove.unlink(missing_ok=True)
        try:
            replace_file(write, encode(verdict))
        except OSError as error:
            log.warning("the outcome of verifying cannot be kept", reason=str(error))
            if write is bad:
                self._not_kept[content_id] = verdict

    def _learn(self, content: Content, verdict: Verdict | None) -> None:
        """Take over what another process has found."""
        if verdict is not None:
            with self._lock:
                self._remember(content, verdict)

    def _remember(self, content: Content, verdict: Verdict) -> None:
        if is_good(content, verdict):
            self._bad = {name: one for name, one in self._bad.items() if name != content.content_id}
        else:
            self._bad = {**self._bad, content.content_id: verdict}

    def refresh(self) -> set[str]:
        """Learn which contents other processes found to be bad, or good again. Returns the ids of those new here."""
        with self._lock:
            before = self._bad
            found = {**self._kept_bad(before), **self._not_kept}
            self._bad = found
            return found.keys() - before.keys()

    def _kept_bad(self, before: dict[str, Verdict]) -> dict[str, Verdict]:
        """The verdicts in `bad`; what cannot be read is as it was before, and bad if it is new."""
        try:
            with (self._directory / "bad").opened() as folder:
                names = [name for name in folder.names() if not name.startswith(".")]
        except OSError as error:
            if error.errno == errno.ENOENT:
                return {}
            log.warning("verdicts cannot be read; those that are known hold", reason=str(error))
            return before
        kept: dict[str, Verdict | None] = {}
        for name in names:
            try:
                kept[name] = _read(self._bad_place(name))
            except OSError:
                kept[name] = before.get(name, TORN)
        return {name: verdict for name, verdict in kept.items() if verdict is not None}

    @contextmanager
    def _judging(self) -> Iterator[None]:
        """While entered no other process gives a verdict, except one that waited too long for a lock that hangs."""
        descriptor = -1
        with suppress(OSError):  # a disk that is full or can only be read, a file system without locks
            self._directory.mkdir()
            descriptor = (self._directory / ".judging").open(os.O_RDWR | os.O_CREAT)
            _lock_soon(descriptor)
        try:
            yield
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _good_place(self, content_id: str) -> Place:
        return self._directory / "good" / content_id[:2] / content_id

    def _bad_place(self, content_id: str) -> Place:
        return self._directory / "bad" / content_id


def _lock_soon(descriptor: int) -> None:
    """Take a lock, or go on without where another process does not give it back. Raises `OSError` without locks."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        if lock_file(descriptor):
            return
        time.sleep(_LOCK_STEP_SECONDS)
    log.warning("judging without a lock: another process does not give it back")


def _still_counts(verdict: Verdict, *, there: str | None, before: Verdict | None, last: Verdict | None) -> bool:
    """Whether a verdict is about what the cache has.

    `there` is the fingerprint of the blocks that are kept now, None if they are not complete: evicted, or never kept.
    Then it counts unless another one was given meanwhile, which may have been of bytes fetched later.
    """
    return there == verdict.fingerprint or (there is None and last == before)


def _mismatches(verdict: Verdict | None) -> int:
    return 0 if verdict is None else verdict.mismatches


def _read_if_any(place: Place) -> Verdict | None:
    """None also for what cannot be read, or is torn."""
    try:
        verdict = _read(place)
    except OSError:
        return None
    return None if verdict is TORN else verdict


def _read(place: Place) -> Verdict | None:
    """None if there is none, or only a link or another user's file. Raises `OSError` for what cannot be read now."""
    try:
        data = place.read_bytes()
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise
    return decode(data)
