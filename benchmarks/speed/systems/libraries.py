"""Python libraries that open an address as a file object, for h5py to read. They keep nothing."""

from benchmarks.speed.systems.base import System


class Library(System):
    """remfile or fsspec, by the system's name; see reader.py."""

    def location(self, name: str) -> str:
        """The library, and an address."""
        return f"{self.name}:{self.site.url(name)}"
