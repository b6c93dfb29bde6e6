"""Another cache directory, of a lab or on another disk, that is read and never written.

Its owner is believed as our own cache is: a block counts if it matches its checksum when it is used first. Bytes are
copied out of its files, not mapped: they may be cut short at any moment.
"""

from pathlib import Path

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.content_places import ContentPlaces
from vbnfs.host.places import Place, folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content


class ReadOnlyCache(BlockCache):
    """What the cache directory at `directory` has of `scope`. `put`, `complete` and `drop` are not for it."""

    def __init__(
        self,
        directory: Path | Place,
        *,
        scope: str,
        metrics: Metrics,
        check_every_read: bool = False,
        is_local: bool = True,
        places: ContentPlaces | None = None,
    ) -> None:
        folder = folder_at(directory)
        super().__init__(
            folder,
            scope=scope,
            metrics=metrics,
            check_every_read=check_every_read,
            is_local=is_local,
            places=places or ContentPlaces(folder / FORMAT / scope, may_map=False, may_write=False),
        )

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """See `BlockCache`; what was not there a moment ago is not looked for again at once."""
        return None if self.is_known_absent(content) else super().read_nowait(content, byte_range)

    def publish_held(self) -> None:
        """Nothing: another directory's evictor is not helped."""

    def note_uses(self) -> None:
        """Nothing."""
