"""How much of each content is in the cache, found by one look at its folders."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from vbnfs.access.opening import scopes_of
from vbnfs.cache.inventory import stock_of
from vbnfs.config.settings import Config
from vbnfs.host.places import folder_at


@dataclass(frozen=True, slots=True)
class Here:
    """Which contents are whole, by their ids, and what the others take on the disk."""

    allocated: Mapping[str, int]
    whole: Set[str]

    @classmethod
    def of(cls, config: Config) -> "Here":
        """Of the servers that a configuration reads from. Reads names, and sizes of what is not whole."""
        allocated, whole, directory = dict[str, int](), set[str](), folder_at(config.cache_dir)
        for scope in scopes_of(config):
            for content_id, size_bytes in stock_of(directory, scope):
                if size_bytes is None:
                    whole.add(content_id)
                else:
                    allocated[content_id] = max(size_bytes, allocated.get(content_id, 0))
        return cls(allocated, whole)

    @property
    def ids(self) -> Set[str]:
        """Of what contents anything is here."""
        return self.allocated.keys() | self.whole

    def bytes_of(self, content_id: str, size_bytes: int) -> int:
        """How many of a content's bytes are here; of one that is not whole, as the disk counts them."""
        return size_bytes if content_id in self.whole else min(size_bytes, self.allocated.get(content_id, 0))
