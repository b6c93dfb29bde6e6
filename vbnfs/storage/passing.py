"""An `ObjectClient` around another that changes nothing: what wrappers begin with."""

from vbnfs.objects import (
    ByteRange,
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectClient,
    ObjectVersion,
    Receive,
)


class PassingClient:
    """Passes every question on to `inner`."""

    def __init__(self, inner: ObjectClient) -> None:
        self._inner = inner

    async def reach(self) -> None:
        """See `ObjectClient`."""
        await self._inner.reach()

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        """See `ObjectClient`."""
        return await self._inner.list_objects(prefix)

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """See `ObjectClient`."""
        return await self._inner.list_versions(prefix)

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """See `ObjectClient`."""
        return await self._inner.head(version)

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        """See `ObjectClient`."""
        return await self._inner.get_object(key, max_bytes=max_bytes)

    async def get_range(
        self, version: ObjectVersion, byte_range: ByteRange, *, size_bytes: int, receive: Receive
    ) -> None:
        """See `ObjectClient`."""
        await self._inner.get_range(version, byte_range, size_bytes=size_bytes, receive=receive)
