"""A verdict on a whole file: what was found, of which blocks, how it is stored, and what is said of it (pure)."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

import xxhash

from vbnfs.objects import Content

_SHOWN_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the blake2b of a whole file was (hex), of which blocks, and when (UTC, ISO 8601).

    `mismatches`: how many times in a row it was not the manifest's, each time of bytes fetched anew. `source` is the
    object version that they were fetched from, in words. `seal` is that of the whole file which was checked
    (`whole_file.Seal`), where one was.
    """

    found_hash: str
    fingerprint: str
    judged: str
    mismatches: int = 0
    source: str = ""
    seal: str = field(default="", compare=False)


TORN: Final = Verdict("", "", "", 1)  # one that cannot be read: it refuses


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


def is_good(content: Content, verdict: Verdict) -> bool:
    """Whether the manifest has the hash that was found."""
    return verdict.found_hash == content.file_hash


def most_mismatches(content: Content) -> int:
    """After how many in a row a content is not fetched anew any more: each source was tried, the first one twice."""
    return 1 + len(content.sources)


def mismatch_text(content: Content, verdict: Verdict) -> str:
    """What is wrong, and what to do."""
    if not verdict.found_hash:
        return f"{content.source}: a verdict against it that cannot be read; 'vbnfs verify --fetch FILE' judges anew"
    found, released = verdict.found_hash[:_SHOWN_DIGITS], (content.file_hash or "")[:_SHOWN_DIGITS]
    source = verdict.source or content.source
    what = f"{source}: blake2b:{found}... instead of the manifest's blake2b:{released}... ({verdict.judged})"
    if verdict.mismatches >= most_mismatches(content):
        return f"{what}, also when fetched anew: S3 has other bytes; 'vbnfs verify --fetch FILE' tries again"
    return f"{what}; it is being fetched anew, and 'vbnfs verify --fetch FILE' does so at once"


def good_text(verdict: Verdict) -> str:
    """The text of the extended attribute for a good file."""
    return f"blake2b:{verdict.found_hash[:_SHOWN_DIGITS]} {verdict.judged}"


def encode(verdict: Verdict) -> bytes:
    """A verdict as it is stored: a line of JSON."""
    return json.dumps(asdict(verdict)).encode() + b"\n"


def decode(line: bytes) -> Verdict:
    """What is stored; `TORN` for what is none."""
    try:
        kept = json.loads(line)
        source = kept.get("source", "")
        verdict = Verdict(
            kept["found_hash"], kept["fingerprint"], kept["judged"], kept["mismatches"], source, kept.get("seal", "")
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return TORN
    texts = (verdict.found_hash, verdict.fingerprint, verdict.judged, verdict.source, verdict.seal)
    is_sound = all(isinstance(text, str) for text in texts) and isinstance(verdict.mismatches, int)
    return verdict if is_sound else TORN
