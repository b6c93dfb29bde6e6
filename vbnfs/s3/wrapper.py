"""What `ObjectClient`s have in common that are wrapped around another one to change how ranges are fetched."""

from vbnfs.objects import (
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectClient,
    ObjectVersion,
)


class WrapperClient:
    """Passes every request on to `inner`, but for those for ranges, which each wrapper handles."""

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
