"""`UPath("vbnfs://v0.5.0/...")` of universal-pathlib, which finds it by an entry point and would warn without it."""

from upath import UPath


class VbnfsPath(UPath):
    """A path of a dataset, for reading: see `VbnfsFileSystem`."""

    __slots__ = ()

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Raises `ReadOnlyError`: universal-pathlib's own would say nothing of a file that is there."""
        self.fs.touch(self.path)
