"""An address as a library has it: a file object, and many ranges at once. For `reader.py` and `streams.py`.

Both run in several environments, so a library is imported when it is asked for: before the clock starts.
"""

import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

REGION = "us-west-2"
BLOCK_BYTES = 4 << 20  # of fsspec's and s3fs's files
Ranges = Sequence[tuple[int, int]]  # offset and size


@dataclass(frozen=True)
class Library:
    """What it imports; `fs` gives fsspec's file system and the path in it, `file` a file object.

    `h5` opens it with h5py, where the library has a way of its own.
    """

    modules: tuple[str, ...]
    fs: Callable[[str], tuple[Any, str]] | None = None
    file: Callable[[str], Any] | None = None
    h5: Callable[[str], Any] | None = None
    options: tuple[tuple[str, Any], ...] = ()  # of the file system's `open`

    def load(self) -> None:
        """Import what it needs."""
        for name in self.modules:
            importlib.import_module(name)

    def open(self, url: str) -> Any:
        """The file at an address, as an object that h5py takes."""
        if self.fs is None:
            assert self.file is not None
            return self.file(url)
        fs, path = self.fs(url)
        return fs.open(path, "rb", **dict(self.options))

    def open_h5(self, url: str) -> Any:
        """The file at an address, as h5py has it."""
        return sys.modules["h5py"].File(self.open(url), "r") if self.h5 is None else self.h5(url)

    def read_ranges(self, url: str, ranges: Ranges) -> list[bytes]:
        """The bytes of ranges, in the way that the library has for many: else one after the other."""
        if self.fs is not None:
            fs, path = self.fs(url)
            starts, ends = [offset for offset, _ in ranges], [offset + size for offset, size in ranges]
            return [bytes(data) for data in fs.cat_ranges([path] * len(ranges), starts, ends, on_error="raise")]
        file = self.open(url)
        return file.read_ranges(ranges) if hasattr(file, "read_ranges") else read_each(file, ranges)


def read_each(file: Any, ranges: Ranges) -> list[bytes]:
    """The bytes of ranges of a file object, one after the other."""
    found = []
    for offset, size in ranges:
        file.seek(offset)
        found.append(file.read(size))
    return found


def endpoint(url: str) -> str:
    """Where the bucket is."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def place(url: str) -> str:
    """Bucket and key, of an address in path style."""
    return urlsplit(url).path.removeprefix("/")


def below_version(url: str) -> str:
    """The path in a dataset version: what stands behind the bucket's and the project's name."""
    return place(url).split("/", 2)[2]


def in_version(url: str) -> str:
    """The path below the newest dataset version's folder."""
    return "latest/" + below_version(url)


def _fsspec() -> Any:
    return sys.modules["fsspec"]


def _blockcache(url: str) -> tuple[Any, str]:
    kept = tempfile.mkdtemp(prefix="blockcache-")  # in the folder of the run, by TMPDIR
    return _fsspec().filesystem("blockcache", fs=_fsspec().filesystem("http"), cache_storage=kept), url


def _s3fs(url: str) -> tuple[Any, str]:
    return sys.modules["s3fs"].S3FileSystem(anon=True, endpoint_url=endpoint(url)), place(url)


def _obstore(url: str) -> tuple[Any, str]:
    store = sys.modules["obstore.fsspec"].FsspecStore(
        "s3",
        endpoint=endpoint(url),
        region=REGION,
        skip_signature=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "allow_invalid_certificates": True},  # it takes no other authority's
    )
    return store, place(url)


def _vbnfs_by_fsspec(url: str) -> tuple[Any, str]:
    return _fsspec().filesystem("vbnfs"), in_version(url)


def _remfile(url: str) -> Any:
    return sys.modules["remfile"].File(url)


@cache
def _vbnfs_dataset() -> Any:
    """One for the process, as a program has it, and as fsspec keeps its file systems."""
    return sys.modules["vbnfs"].Dataset()


def _vbnfs_file(url: str) -> Any:
    return _vbnfs_dataset().file(below_version(url))


LIBRARIES = {
    "remfile": Library(("remfile",), file=_remfile),
    "fsspec": Library(
        ("fsspec", "fsspec.implementations.http"),
        fs=lambda url: (_fsspec().filesystem("http"), url),
        options=(("block_size", BLOCK_BYTES),),
    ),
    "fsspec-blockcache": Library(
        ("fsspec", "fsspec.implementations.http", "fsspec.implementations.cached"), fs=_blockcache
    ),
    "s3fs-python": Library(("s3fs",), fs=_s3fs, options=(("block_size", BLOCK_BYTES),)),
    "obstore": Library(("obstore.fsspec",), fs=_obstore),
    "vbnfs-python": Library(
        ("vbnfs", "vbnfs.api.dataset"),
        file=lambda url: _vbnfs_file(url).open(),
        h5=lambda url: _vbnfs_file(url).h5(),
    ),
    "vbnfs-fsspec": Library(("fsspec", "vbnfs.api.filesystem"), fs=_vbnfs_by_fsspec),
}
