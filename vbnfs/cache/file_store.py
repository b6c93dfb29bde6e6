"""A store for what another process receives for a cache: two descriptors and a plan, and no path (block_sink.py)."""

from collections.abc import Callable, Sequence

import structlog

from vbnfs.blocks import BLOCK_BYTES, DIGEST_BYTES, by_block, digest
from vbnfs.cache.content_blocks import ContentBlocks
from vbnfs.cache.content_folder import OpenFiles
from vbnfs.objects import Sink, StorePlan

log = structlog.get_logger()


class FileStore(Sink):
    """See `objects.Sink`: the files of a content that another process has opened, by `plan` and their descriptors.

    What cannot be stored is handed on as bytes to that process, which finds out why.
    """

    def __init__(self, plan: StorePlan, data: int, checksums: int) -> None:
        self._plan = plan
        files = OpenFiles(data, checksums, is_writable=True, are_shared=plan.are_shared)
        self._files: ContentBlocks | None = ContentBlocks(files, identity=plan.identity, data_bytes=plan.size_bytes)

    def store(self, start: int, parts: Sequence[bytes]) -> bool:
        """See `objects.Sink`."""
        first = start // BLOCK_BYTES
        try:
            if self._plan.digests is not None and not have_digests(first, parts, self._digest_of):
                return False
            if self._files is None or not self._files.are_intact:
                return False
            self._files.write(first, *parts)
        except OSError:
            return False
        except Exception:  # a defect; it must not end the thread that stores everything
            log.exception("unexpected failure of a write")
            return False
        return True

    def close(self) -> None:
        """See `objects.Sink`. A network file system writes what is not written yet; another one may free room."""
        self._files = None

    def _digest_of(self, index: int) -> bytes:
        at = (index - self._plan.first) * DIGEST_BYTES
        return (self._plan.digests or b"")[at : at + DIGEST_BYTES]


def have_digests(first: int, parts: Sequence[bytes], digest_of: Callable[[int], bytes]) -> bool:
    """Whether adjacent blocks, from number `first` on and cut anywhere into parts, have their digests."""
    return all(digest(*block) == digest_of(index) for index, block in enumerate(by_block(parts), first))
