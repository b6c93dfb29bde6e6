"""How much of each content is in the cache, found by one look at its folders."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from vbnfs.access.opening import scopes_of
from vbnfs.cache.inventory import FORMAT_1, scan
from vbnfs.config.settings import Config
from vbnfs.host.places import folder_at


@dataclass(frozen=True, slots=True)
class Here:
    """What contents take on the disk, by their ids, and which of them are whole."""

    allocated: Mapping[str, int]
    whole: Set[str]

    @classmethod
    def of(cls, config: Config) -> "Here":
        """Of the servers that a configuration reads from. Reads no file, but for the names and sizes of all."""
        allocated, whole, scopes = dict[str, int](), set[str](), scopes_of(config)
        for one in scan(folder_at(config.cache_dir)):
            if one.scope in scopes and not one.path.startswith(f"{FORMAT_1}/"):
                allocated[one.content_id] = max(one.allocated_bytes, allocated.get(one.content_id, 0))
                whole |= {one.content_id} if one.is_whole else set()
        return cls(allocated, whole)

    def bytes_of(self, content_id: str, size_bytes: int) -> int:
        """How many of a content's bytes are here; what the disk takes besides is not among them."""
        return size_bytes if content_id in self.whole else min(size_bytes, self.allocated.get(content_id, 0))
