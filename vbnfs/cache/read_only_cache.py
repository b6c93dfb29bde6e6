"""Another cache directory, of a lab or on another disk, that is read and never written.

Its owner is believed as our own cache is: a block counts if it matches its checksum when it is used first. Bytes are
copied out of its files, not mapped: they may be cut short at any moment.
"""

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import KINDS
from vbnfs.objects import ByteRange, Content


class ReadOnlyCache(BlockCache):
    """What the cache directory at `directory` has of `scope`. `put`, `complete` and `drop` are not for it."""

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """See `BlockCache`; what was not there a moment ago is not looked for again at once."""
        return None if self.is_known_absent(content) else super().read_nowait(content, byte_range)

    def publish_held(self) -> None:
        """Nothing: another directory's evictor is not helped."""

    def note_uses(self) -> None:
        """Nothing."""

    def _demote(self, content: Content) -> None:
        """Nothing: its owner finds the damaged block as well."""

    def _open_any(self, content: Content) -> ContentFile | None:
        for kind in (*KINDS, *KINDS):
            place = self.place_of(content.content_id, kind)
            file = ContentFile.open(
                place, identity=content.content_id, data_bytes=content.size_bytes, may_map=False, may_write=False
            )
            if file is not None:
                return file
        return None
