"""What can be said of a whole file without hashing it."""

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.verdict import fingerprint_of, good_text, mismatch_text
from vbnfs.cache.verdicts import Verdicts
from vbnfs.cache.whole_file import Seal
from vbnfs.errors import HashMismatchError, StorageError
from vbnfs.objects import Content, may_have_size


def describe(cache: BlockCache, verdicts: Verdicts, content: Content) -> str:
    """The text of the extended attribute `user.vbnfs.verified`. Reads the disk: call it from a thread."""
    if content.file_hash is None:
        return "no: the manifest has no hash of it"
    bad = verdicts.bad(content)
    if bad is not None:
        return f"no: mismatch: {mismatch_text(content, bad)}"
    fingerprint = fingerprint_of(cache.records(content))
    if fingerprint is None:
        return "no: not complete"
    good = verdicts.good(content)
    return good_text(good) if good is not None and good.fingerprint == fingerprint else "no: not hashed yet"


def is_good(cache: BlockCache, verdicts: Verdicts, content: Content, seal: Seal) -> bool:
    """Whether a whole file has the manifest's hash, as `describe` finds it. `seal`: that of the file.

    The seal of a file that was hashed stands with its verdict: then no checksum of a block is read.
    """
    if content.file_hash is None or (good := verdicts.good(content)) is None:
        return False
    return good.seal == seal.text or good.fingerprint == fingerprint_of(cache.records(content))


def check_possible(content: Content) -> None:
    """Raise a `StorageError` for a content that cannot be what was released.

    It has no bytes but the hash of some, or the other way round; or its object may be replaced, and no ETag would
    show that.
    """
    if not content.source.is_immutable and content.source.etag is None:
        raise StorageError(
            f"{content.source}: the bucket keeps no versions of it, and the server gives no ETag: nothing would tell"
            " that it was replaced"
        )
    if not may_have_size(content.file_hash, content.size_bytes):
        raise HashMismatchError(
            f"{content.source}: S3 has {content.size_bytes:,} bytes, which cannot have the manifest's hash;"
            " read another dataset version, and tell the dataset's owner"
        )
