"""`StoringClient`: stores the blocks that it receives in a cache itself, as another process could, and says so."""

from collections.abc import Callable, Iterator

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.stored_blocks import block_range
from vbnfs.errors import StorageError
from vbnfs.objects import Content, Piece, RangeRequest, Receive, Received, Stored


class StoringClient(MemoryClient):
    """Stores whole blocks in `cache`; hands on the bytes of the others, and of parts of blocks.

    `stores` says which blocks, by number. `lies` is how many of the next ones it does not store, and says that it
    has. `after_storing` is called when one was stored, before a word of it. The cache's name of a content is its key.
    """

    def __init__(
        self, store: MemoryStore, cache: BlockCache, *, piece_bytes: int | Callable[[], int] = BLOCK_BYTES
    ) -> None:
        super().__init__(store, piece_bytes=piece_bytes)
        self._cache = cache
        self.stores: Callable[[int], bool] = lambda index: True
        self.lies = 0
        self.after_storing: Callable[[Content], object] = lambda content: None

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        content = Content(request.version.key, request.size_bytes, request.version)
        held = Piece(request.byte_range.start, b"")

        async def store(piece: Piece) -> None:
            nonlocal held
            held = Piece(held.start, held.data + piece.data)
            for received in self._whole(content, held):
                held = held.after(received.stop)
                await receive(received)

        try:
            await super().get_range(request, store)  # type: ignore[arg-type]
        except StorageError:
            if held:  # the beginning of a block, which cannot be stored
                await receive(held)
            raise

    def _whole(self, content: Content, held: Piece) -> Iterator[Received]:
        """What comes of the bytes up to the end of a block."""
        while held:
            block = block_range(content, held.start // BLOCK_BYTES)
            if held.stop < block.stop:
                return
            data = held.data[: block.stop - held.start]
            is_whole = held.start == block.start
            yield (
                Stored(held.start, block.stop)
                if is_whole and self._keep(content, data, block.start)
                else Piece(held.start, data)
            )
            held = held.after(block.stop)

    def _keep(self, content: Content, data: bytes, start: int) -> bool:
        index = start // BLOCK_BYTES
        if self.lies:
            self.lies -= 1
            return True
        is_kept = self.stores(index) and self._cache.put(content, index, data) == len(data)
        if is_kept:
            self.after_storing(content)
        return is_kept
