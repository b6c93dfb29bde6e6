"""`UPath("vbnfs://v0.5.0/...")` of universal-pathlib, which finds it by an entry point and would warn without it."""

from upath import UPath


class VbnfsPath(UPath):
    """A path of a dataset, for reading: see `VbnfsFileSystem`."""

    __slots__ = ()
