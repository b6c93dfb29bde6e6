"""Whether the bytes that are kept of a content are the released ones: what was found, kept beside the blocks.

    verified-v1/<scope>/good/<2 hex>/<content id>      hashed, and the same as the manifest's file_hash
    verified-v1/<scope>/bad/<content id>               hashed, and not the same: reads are refused

Each is a line of JSON. A verdict is about the blocks that were hashed, and names them by a fingerprint: a hash of
their checksums in order. It holds as long as blocks with these checksums are kept, by whomever they were fetched;
after any other block was written it says nothing any more. All of it may be lost, and what is torn counts as lost:
then a file is hashed again.
"""

import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import structlog
import xxhash

from vbnfs.errors import HashMismatchError
from vbnfs.objects import Content
from vbnfs.storage.private import read_private
from vbnfs.temporary import replace_file

log = structlog.get_logger()

FORMAT: Final = "verified-v1"
_SHOWN_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the blake2b of a whole file was (hex), of which blocks, and when (UTC, ISO 8601).

    `mismatches`: how many times in a row it was not the manifest's, each time of bytes fetched anew. `source` is the
    object version that they were fetched from, in words.
    """

    found_hash: str
    fingerprint: str
    judged: str
    mismatches: int = 0
    source: str = ""


class Fingerprint:
    """Made of the checksums of all blocks of a content, in order."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def add(self, record: bytes) -> None:
        """The next block's checksum."""
        self._hash.update(record)

    def text(self) -> str:
        """In hex."""
        return self._hash.hexdigest()


def fingerprint_of(records: Iterable[bytes | None]) -> str | None:
    """The fingerprint of blocks that are kept; None if one is not."""
    fingerprint = Fingerprint()
    for record in records:
        if record is None:
            return None
        fingerprint.add(record)
    return fingerprint.text()


class Verdicts:
    """The verdicts on what came from `scope`, shared by all processes with this cache directory.

    Methods that look at the disk may be called from any thread. `refuse` does not: it goes by the mismatches that
    were known at the last `refresh`, and by this process's own.
    """

    def __init__(self, directory: Path, *, scope: str) -> None:
        self._directory = directory / FORMAT / scope
        self._lock = threading.Lock()  # of those who change what follows
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
        """The last verdict in favour of a content. Whether it still holds, its fingerprint tells."""
        verdict = _read(self._good_path(content.content_id))
        return verdict if verdict is not None and is_good(content, verdict) else None

    def keep(self, content: Content, verdict: Verdict) -> None:
        """Let a verdict be known: at once here, soon in other processes. A disk that does not take it is no error."""
        with self._lock:
            self._keep(content, verdict)

    def _keep(self, content: Content, verdict: Verdict) -> None:
        content_id = content.content_id
        good, bad = self._good_path(content_id), self._bad_path(content_id)
        if is_good(content, verdict):
            self._bad = {name: one for name, one in self._bad.items() if name != content_id}
            write, remove = good, bad
        else:
            self._bad = {**self._bad, content_id: verdict}
            write, remove = bad, good
        self._not_kept.pop(content_id, None)
        with suppress(OSError):
            remove.unlink(missing_ok=True)
        try:
            write.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(write, json.dumps(asdict(verdict)).encode() + b"\n")
        except OSError as error:
            log.warning("the outcome of verifying cannot be kept", reason=str(error))
            if write is bad:
                self._not_kept[content_id] = verdict

    def refresh(self) -> set[str]:
        """Learn which contents other processes found to be bad, or good again. Returns the ids of those new to us."""
        directory = self._bad_path("")
        with self._lock:
            try:
                names = [name for name in os.listdir(directory) if not name.startswith(".")]
            except OSError:
                names = []
            kept = {name: verdict for name in names if (verdict := _read(directory / name)) is not None}
            found = {**kept, **self._not_kept}
            fresh = found.keys() - self._bad.keys()
            self._bad = found
            return fresh

    def _good_path(self, content_id: str) -> Path:
        return self._directory / "good" / content_id[:2] / content_id

    def _bad_path(self, content_id: str) -> Path:
        return self._directory / "bad" / content_id


def is_good(content: Content, verdict: Verdict) -> bool:
    """Whether the manifest has the hash that was found."""
    return verdict.found_hash == content.file_hash


def most_mismatches(content: Content) -> int:
    """After how many in a row a content is not fetched anew any more: each source was tried, the first one twice."""
    return 1 + len(content.sources)


def mismatch_text(content: Content, verdict: Verdict) -> str:
    """What is wrong, and what to do."""
    found, released = verdict.found_hash[:_SHOWN_DIGITS], (content.file_hash or "")[:_SHOWN_DIGITS]
    source = verdict.source or content.source
    what = f"{source}: blake2b:{found}... instead of the manifest's blake2b:{released}... ({verdict.judged})"
    if verdict.mismatches >= most_mismatches(content):
        return f"{what}, also when fetched anew: S3 has other bytes; 'vbnfs verify --fetch FILE' tries again"
    return f"{what}; it is being fetched anew, and 'vbnfs verify --fetch FILE' does so at once"


def good_text(verdict: Verdict) -> str:
    """What the extended attribute says of a good file."""
    return f"blake2b:{verdict.found_hash[:_SHOWN_DIGITS]} {verdict.judged}"


def _read(path: Path) -> Verdict | None:
    """None if there is none, it is damaged, somebody else's or a link."""
    try:
        told = json.loads(read_private(path))
        source = told.get("source", "")
        verdict = Verdict(told["found_hash"], told["fingerprint"], told["judged"], told["mismatches"], source)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    texts = (verdict.found_hash, verdict.fingerprint, verdict.judged, verdict.source)
    is_sound = all(isinstance(text, str) for text in texts) and isinstance(verdict.mismatches, int)
    return verdict if is_sound else None
