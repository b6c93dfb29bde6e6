"""fsspec's file system of a dataset: `vbnfs://v0.5.0/project_metadata/units.csv`. docs/fsspec.md is its guide.

fsspec finds it by the entry point `vbnfs` of the group `fsspec.specs`, and imports it when such a URL is used. The
first part of a path is a dataset version as a folder is called, `v0.5.0`, or `latest`.

References: https://filesystem-spec.readthedocs.io/en/latest/api.html (`AbstractFileSystem`) and copying.html.
"""

from collections.abc import Callable, Sequence, Sized
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import index
from pathlib import Path
from typing import Any, Final, SupportsIndex

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractFileSystem
from fsspec.utils import isfilelike

from vbnfs.api.attributes import attributes_of
from vbnfs.api.buffered_file import BufferedFile
from vbnfs.api.dataset import Dataset
from vbnfs.api.files import File
from vbnfs.api.folders import Folder, Node, folders_of, node_at
from vbnfs.api.remote_file import RemoteFile, read_ranges_of
from vbnfs.config.settings import Config
from vbnfs.dataset.names import LATEST
from vbnfs.errors import ReadOnlyError, VbnfsError
from vbnfs.host.atomic import output_file
from vbnfs.objects import ByteRange
from vbnfs.suggestions import hint, near_paths

PROTOCOL: Final = "vbnfs"
# What fsspec and its wrappers hand to any file system; a dataset's listings never change, and need no such limits.
_OPTIONS_OF_FSSPEC: Final = frozenset(
    {"use_listings_cache", "listings_expiry_time", "max_paths", "asynchronous", "loop", "batch_size"}
)
_COPIED_BYTES: Final = 4 << 20  # at a time, out of the dataset


@dataclass(frozen=True, slots=True)
class _Shared:
    """A dataset and the folders of its versions, for all file systems of this process with the same settings.

    fsspec makes a file system for each thread.
    """

    dataset: Dataset
    folders: dict[str, Folder] = field(default_factory=dict)


_SHARED: Final[dict[Config, _Shared]] = {}


def _refused(name: str) -> Callable[..., Any]:
    """A method that would write."""

    def refuse(self: "VbnfsFileSystem", *arguments: Any, **options: Any) -> Any:
        """Raises `ReadOnlyError`."""
        raise ReadOnlyError(f"{name}: a released dataset never changes: write to a file system of your own")

    refuse.__name__ = name
    return refuse


class VbnfsFileSystem(AbstractFileSystem):
    """A dataset as fsspec's programs see it, read through the cache that mounts, commands and `vbnfs.Dataset` use.

    `dataset`: its name in the settings. `config_file`: the settings file. Other options are settings by their names
    in docs/settings.md, as `cache_dir` and `endpoint_url`.

    Raises `UsageError` for a setting that is wrong. Methods raise `FileNotFoundError`, `IsADirectoryError`; the
    errors of `RemoteFile` where bytes cannot be had; `StorageError` where the bucket cannot be read at all;
    `ReadOnlyError` where something would be written. Thread-safe.
    """

    protocol = PROTOCOL
    root_marker = ""

    def __init__(self, dataset: str | None = None, config_file: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        settings = {name: value for name, value in options.items() if name not in _OPTIONS_OF_FSSPEC}
        made = Dataset(dataset, config_file=config_file, **settings)
        self._shared = _SHARED.setdefault(made.config, _Shared(made))

    @property
    def dataset(self) -> Dataset:
        """The dataset that it reads."""
        return self._shared.dataset

    def __repr__(self) -> str:
        return repr(self.dataset).replace("vbnfs.Dataset", type(self).__name__)

    @property
    def fsid(self) -> str:
        """The server, bucket and project: equal for the same files in any process."""
        config = self.dataset.config
        return f"{PROTOCOL}:{config.endpoint_url or config.region}/{config.bucket}/{config.project}"

    def close(self) -> None:
        """Close what this process has open of the dataset. The next use opens it again, and asks for its versions."""
        self._shared.folders.clear()
        self.dataset.close()

    # Names

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What is in a folder, or the file itself: `info` of each, or their paths. Sorted by name."""
        path = self._strip_protocol(path)
        node = self._node(path)
        if isinstance(node, File):
            nodes: dict[str, Node] = {path: node}
        else:
            nodes = {f"{path}/{name}".lstrip("/"): child for name, child in node.items()}
        return self._infos(nodes) if detail else list(nodes)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Name, size in bytes and type (`file` or `directory`) of what is at a path.

        Of a file also `mtime` (S3's time, in seconds since 1970), `hash` (blake2b, 128 hex digits, or None) and
        `version_id` (S3's). Size and time are None where S3 has to be asked and cannot be. A folder's size is 0.
        """
        path = self._strip_protocol(path)
        return self._infos({path: self._node(path)})[0]

    def exists(self, path: str, **options: Any) -> bool:
        """Whether there is a file or folder. Raises where that cannot be known: fsspec's own would say no."""
        return self._node_or_none(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether there is a folder."""
        return isinstance(self._node_or_none(path), dict)

    def isfile(self, path: str) -> bool:
        """Whether there is a file."""
        return isinstance(self._node_or_none(path), File)

    def ukey(self, path: str) -> str:
        """What is the same for the same bytes, in all versions and processes: the manifest's hash of a file.

        If that has none: a hash of the object and its S3 version.
        """
        file = self._file(path)
        return file.hash or file.connection.value.versions.named.of(file.entry).content_id

    def checksum(self, path: str) -> int:
        """`ukey` as a number."""
        return int(self.ukey(path), 16)

    def modified(self, path: str) -> datetime:
        """When S3 got the file. Raises `OSError` where that cannot be found out."""
        seconds = self._infos({path: self._file(path)})[0]["mtime"]
        if seconds is None:
            raise OSError(f"{path}: S3 is not reached, and no listing says when it was stored")
        return datetime.fromtimestamp(seconds, UTC)

    created = modified  # an object version is stored once

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        """The file's own URL at S3, with its version id: any program can fetch it, at any time."""
        return self._file(path).url

    # Bytes

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """The bytes of a file from `start` up to, not including, `end`; negative ones count from its end."""
        with self._file(path).open() as file:
            first, stop = _range(start, end, file.size)
            return file.read_at(first, stop - first)

    def cat(
        self, path: str | list[str], recursive: bool = False, on_error: str = "raise", **options: Any
    ) -> bytes | dict[str, bytes | Exception]:
        """The bytes of a file; of several, or what a pattern matches, a dict by path: those come in one wave.

        What cannot be had is left out for the `on_error` "omit", and has its error in its place for "return".
        """
        paths = self.expand_path(path, recursive=recursive)
        if len(paths) == 1 and not isinstance(path, list) and paths[0] == self._strip_protocol(path):
            return self.cat_file(paths[0], **options)
        failing = "raise" if on_error == "raise" else "return"
        found = self.cat_ranges(paths, options.get("start"), options.get("end"), on_error=failing)
        pairs = zip(paths, found, strict=True)
        return {name: data for name, data in pairs if on_error != "omit" or not isinstance(data, Exception)}

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: SupportsIndex | Sequence[SupportsIndex | None] | None,
        ends: SupportsIndex | Sequence[SupportsIndex | None] | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[bytes | Exception]:
        """The bytes of many ranges, which come in one wave of requests; very many in waves of 64 MiB.

        `max_gap` changes nothing: what lies close together is fetched together in any case. A failure stands in the
        place of the ranges of its file, unless `on_error` is "raise".
        """
        if isinstance(paths, str):
            raise TypeError("cat_ranges wants a list of paths")
        wanted = list(zip(paths, _each(starts, paths), _each(ends, paths), strict=True))
        places: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            places.setdefault(path, []).append(number)
        stops = on_error == "raise"
        with ExitStack() as stack:
            opened = {path: self._opened(path, stack, stops=stops) for path in places}
            files = {path: file for path, file in opened.items() if isinstance(file, RemoteFile)}
            asked = [
                (file, [ByteRange(*_range(*wanted[number][1:], file.size)) for number in places[path]])
                for path, file in files.items()
            ]
            came = dict(zip(files, read_ranges_of(asked, stops=stops), strict=True))
        found: dict[int, bytes | Exception] = {}
        for path, numbers in places.items():
            result = came[path] if path in came else opened[path]
            if isinstance(result, list):
                found.update(zip(numbers, result, strict=True))
            elif isinstance(result, Exception):
                if stops:
                    raise result
                found.update(dict.fromkeys(numbers, result))
        return [found[number] for number in range(len(wanted))]

    def _opened(self, path: str, stack: ExitStack, *, stops: bool) -> RemoteFile | Exception:
        """A file that `stack` closes, or why it cannot be opened."""
        try:
            return stack.enter_context(self._file(path).open())
        except (OSError, VbnfsError) as error:
            if stops:
                raise
            return error

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, outfile: Any = None, **options: Any
    ) -> None:
        """Copy a file out, and make a folder for a folder. A file gets its name when all of it is there."""
        open_file = lpath if outfile is None and isfilelike(lpath) else outfile
        if open_file is not None:
            self._copy(rpath, open_file, callback)
        elif self.isdir(rpath):
            Path(lpath).mkdir(parents=True, exist_ok=True)
        else:
            Path(lpath).parent.mkdir(parents=True, exist_ok=True)
            with output_file(Path(lpath)) as out:
                self._copy(rpath, out, callback)

    def _copy(self, path: str, out: Any, callback: Any) -> None:
        with self.open(path, "rb") as file:
            callback.set_size(file.size)
            while data := file.read(_COPIED_BYTES):
                out.write(data)
                callback.relative_update(len(data))

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> BufferedFile:
        if mode != "rb":
            raise ReadOnlyError(f"{path}: a released dataset never changes: open it to read, not by mode {mode!r}")
        file = self._file(path)
        # `latest` may be another version where a copy of the open file is used.
        place = f"v{file.dataset_version}/{path.partition('/')[2]}"
        return BufferedFile(self, place, file.open(), block_size)

    mkdir, makedirs, rmdir = _refused("mkdir"), _refused("makedirs"), _refused("rmdir")
    pipe, pipe_file, touch = _refused("pipe"), _refused("pipe_file"), _refused("touch")
    put, put_file = _refused("put"), _refused("put_file")
    copy, cp_file, mv = _refused("copy"), _refused("cp_file"), _refused("mv")
    rm, rm_file, _rm = _refused("rm"), _refused("rm_file"), _refused("rm")
    write_text = _refused("write_text")

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(super()._strip_protocol(path)).strip("/")

    def _infos(self, nodes: dict[str, Node]) -> list[dict[str, Any]]:
        files = [node for node in nodes.values() if isinstance(node, File)]
        attributes = iter(attributes_of(files[0].connection, files) if files else ())
        infos: list[dict[str, Any]] = []
        for path, node in nodes.items():
            if not isinstance(node, File):
                infos.append({"name": path, "size": 0, "type": "directory"})
                continue
            known = next(attributes)
            infos.append({
                "name": path,
                "size": None if known is None else known.size_bytes,
                "type": "file",
                "mtime": None if known is None else known.modified_ns / 1e9,
                "hash": node.hash,
                "version_id": node.entry.version.version_id,
            })  # fmt: skip
        return infos

    def _file(self, path: str) -> File:
        node = self._node(path)
        if isinstance(node, dict):
            raise IsADirectoryError(f"{path}: a folder")
        return node

    def _node(self, path: str) -> Node:
        node = self._node_or_none(path)
        if node is None:
            raise FileNotFoundError(f"{path}: no such file or folder{self._nearest(self._strip_protocol(path))}")
        return node

    def _node_or_none(self, path: str) -> Node | None:
        first, _, rest = self._strip_protocol(path).partition("/")
        if not first:
            return {name: {} for name in self._versions()}
        top = self._version(first)
        return None if top is None else node_at(top, rest)

    def _nearest(self, path: str) -> str:
        """What is near a path that leads nowhere, as the end of a message."""
        if not self._versions():
            return f"; there is no dataset version: {'; '.join(self.dataset.problems)}"
        first = path.partition("/")[0]
        if self._version(first) is None:
            return f"; a path begins with one of {', '.join(self._versions())}, or {LATEST}"
        folder, _, name = path.rpartition("/")
        node = self._node_or_none(folder)
        if isinstance(node, dict) and (nearest := hint(name, node)):
            return nearest
        found = near_paths(
            path, [file.path for file in self.dataset.version(None if first == LATEST else first).files]
        )
        return f"; near it: {', '.join(f'{first}/{one}' for one in found)}" if found else ""

    def _versions(self) -> list[str]:
        return [f"v{name}" for name in self.dataset.versions]

    def _version(self, name: str) -> Folder | None:
        """The folder of a version, by the first part of a path."""
        if name not in {LATEST, *self._versions()}:
            return None
        version = self.dataset.version(None if name == LATEST else name[1:])
        if version.name not in self._shared.folders:
            self._shared.folders[version.name] = folders_of(version.files)
        return self._shared.folders[version.name]


def _range(start: int | None, end: int | None, size_bytes: int) -> tuple[int, int]:
    """Where what Python's `[start:end]` is of so many bytes begins and ends."""
    first, stop, _ = slice(start, end).indices(size_bytes)
    return first, max(first, stop)


def _each(value: SupportsIndex | Sequence[SupportsIndex | None] | None, paths: Sequence[str]) -> list[int | None]:
    """A number for each path; NumPy's arrays are sequences. Raises `ValueError` for another number of numbers."""
    values = value if isinstance(value, Sized) else [value] * len(paths)
    if len(values) != len(paths):
        raise ValueError(f"cat_ranges got {len(paths)} paths and {len(values)} numbers for them")
    return [None if one is None else index(one) for one in values]
