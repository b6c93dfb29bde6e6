"""`vbnfs://` as fsspec has it: the answers of its local file system of a copy; whatever writes is refused."""

import errno
import io
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, always, error, for_kind, held
from tests.fakes.store import Data, Pattern
from vbnfs.api.filesystem import VbnfsFileSystem
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.errors import ReadOnlyError, UsageError

SESSION = "behavior_ecephys_sessions/7/ecephys_session_7.nwb"
UNITS = "project_metadata/units.csv"
LINES = b"".join(b"%d,%s\n" % (number, b"x" * (number % 97)) for number in range(5000)) + b"the last one"
FILES: dict[str, Data] = {
    UNITS: LINES,
    "project_metadata/probes.csv": b"a,b\r\n1,2\r\n",
    SESSION: Pattern(3 * BLOCK_BYTES + 1001, seed=1),
    "behavior_ecephys_sessions/7/probe_probeA_lfp.nwb": Pattern(70_000, seed=2),
    "behavior_ecephys_sessions/8/ecephys_session_8.nwb": Pattern(5, seed=3),
    "odd/empty": b"",
    "odd/.hidden": b"h",
    "odd/a b": b"\n\n",
    "odd/a [1].txt": b"brackets",
    "odd/äö ü/ß.txt": b"letters",
    "odd/a*b/deep/er/x.txt": b"stars",
}
OLD, NEW = "v0.1.0", "v0.2.0"
NEW_FILES = {name: data for name, data in FILES.items() if "8" not in name}


@dataclass(frozen=True)
class Twins:
    """A release, and a copy of it on the local disk, each as fsspec has it."""

    server: FakeS3Server
    remote: VbnfsFileSystem
    local: LocalFileSystem
    copy: Path

    def at(self, path: str) -> str:
        """A path of the release, in the copy."""
        return f"{self.copy}/{path}".rstrip("/")

    def plain(self, path: str) -> str:
        """A path of the copy, in the release."""
        assert path.startswith(str(self.copy))
        return path[len(str(self.copy)) + 1 :]


def copied(files: dict[str, Data], folder: Path) -> None:
    """A version on the local disk, with its sessions in the flat folder, too."""
    for name, data in files.items():
        places = [folder / name]
        places += [folder / "ecephys_sessions" / Path(name).name] if "/ecephys_session_" in name else []
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data[: len(data)])


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Two versions; the second lacks a session."""
    copy = tmp_path_factory.mktemp("copy")
    copied(FILES, copy / OLD)
    copied(NEW_FILES, copy / NEW)
    with serve({OLD[1:]: FILES, NEW[1:]: NEW_FILES}) as server:
        options = {"endpoint_url": server.endpoint_url, "cache_dir": str(tmp_path_factory.mktemp("cache"))}
        remote = fsspec.filesystem("vbnfs", **options)
        yield Twins(server, remote, LocalFileSystem(), copy)
        remote.close()


def every_path() -> list[str]:
    """All folders and files of the release, and some that are not there."""
    files = [f"{OLD}/{name}" for name in FILES] + [f"{NEW}/{name}" for name in NEW_FILES]
    files += [f"{OLD}/ecephys_sessions/ecephys_session_8.nwb", f"{NEW}/ecephys_sessions/ecephys_session_7.nwb"]
    folders = {"/".join(file.split("/")[:depth]) for file in files for depth in range(file.count("/") + 1)}
    return sorted({*files, *folders, f"{OLD}/nothing", "v9", f"{NEW}/{SESSION}/below", f"{NEW}/odd/empty/below"})


PATHS = every_path()
NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns; or that there is no such file."""
    try:
        return call()
    except NOT_THERE:
        return "not there"


ends = st.sampled_from(["", "", "/"])  # a pattern with a slash at its end is of folders


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """Patterns of glob that may match something: paths, parts of which are replaced."""
    parts = draw(st.sampled_from(PATHS)).split("/")
    wild = st.sampled_from(["*", "**", "?*", "*s*", "*.nwb", "[!a]*", "a*", "*[1]*", "v0.?.0"])
    return "/".join(draw(st.one_of(st.just(part), st.just(part), wild)) for part in parts) + draw(ends)


depths = st.one_of(st.none(), st.integers(1, 4))


@settings(max_examples=50)
@given(data=st.data())
def test_names_are_those_of_a_copy(twins: Twins, data: st.DataObject) -> None:
    """ls, info, find, walk, glob, exists, isdir and isfile answer as fsspec's local file system of a copy does."""
    remote, local = twins.remote, twins.local
    path, depth = data.draw(st.sampled_from(PATHS)), data.draw(depths)
    there = twins.at(path)

    def described(info: dict[str, Any]) -> tuple[Any, ...]:
        return (info["type"], info["size"] if info["type"] == "file" else None)

    def plain(infos: list[dict[str, Any]]) -> dict[str, Any]:
        return {twins.plain(info["name"]): described(info) for info in infos}

    for name in ("exists", "isdir", "isfile"):
        assert getattr(remote, name)(path) == getattr(local, name)(there)
    assert outcome(lambda: described(remote.info(path))) == outcome(lambda: described(local.info(there)))
    found = outcome(lambda: {info["name"]: described(info) for info in remote.ls(path, detail=True)})
    assert found == outcome(lambda: plain(local.ls(there, detail=True)))
    assert found == "not there" or sorted(found) == sorted(remote.ls(path, detail=False))
    with_folders = data.draw(st.booleans())
    assert [name for name in remote.find(path, maxdepth=depth, withdirs=with_folders) if name] == [
        name for name in map(twins.plain, local.find(there, maxdepth=depth, withdirs=with_folders)) if name
    ]
    walked = {place: (set(folders), set(files)) for place, folders, files in remote.walk(path, maxdepth=depth)}
    assert walked == {
        twins.plain(place) if place != str(twins.copy) else "": (set(folders), set(files))
        for place, folders, files in local.walk(there, maxdepth=depth)
    }
    pattern = data.draw(patterns())
    expected = [twins.plain(one) for one in local.glob(f"{twins.copy}/{pattern}", maxdepth=depth)]
    assert [one for one in remote.glob(pattern, maxdepth=depth) if one] == [one for one in expected if one]


numbers = st.one_of(st.none(), st.integers(-80_000, 80_000), st.integers(-5, 5))


def is_forward(start: int | None, end: int | None, size: int) -> bool:
    """Whether fsspec's own file systems read such a range, and not from its start to the file's end."""
    first = 0 if start is None else max(0, size + start) if start < 0 else start
    return end is None or (size + end if end < 0 else end) >= first


@settings(max_examples=40)
@given(data=st.data())
def test_bytes_are_those_of_a_copy(twins: Twins, data: st.DataObject) -> None:
    """cat, cat_file, cat_ranges, head and tail answer as fsspec's local file system of a copy does."""
    files = [path for path in PATHS if twins.local.isfile(twins.at(path))]
    wanted = data.draw(st.lists(st.tuples(st.sampled_from(files), numbers, numbers), min_size=1, max_size=8))
    wanted = [one for one in wanted if is_forward(one[1], one[2], twins.remote.size(one[0]))] or [(files[0], 0, 1)]
    paths, starts, ends = map(list, zip(*wanted, strict=True))
    there = [twins.at(path) for path in paths]
    assert twins.remote.cat_ranges(paths, starts, ends) == twins.local.cat_ranges(there, starts, ends)
    assert twins.remote.cat_file(*wanted[0]) == twins.local.cat_file(there[0], starts[0], ends[0])
    plain = [n for n, path in enumerate(paths) if "*" not in path and "[" not in path]  # or it is a pattern
    of_remote, of_local = ([named[n] for n in plain] for named in (paths, there))
    if plain:
        assert twins.remote.cat(of_remote[0]) == twins.local.cat(of_local[0])
        assert list(twins.remote.cat(of_remote).values()) == list(twins.local.cat(of_local).values())
    assert twins.remote.head(paths[0], 100) == twins.local.head(there[0], 100)
    assert twins.remote.tail(paths[0], 100) == twins.local.tail(there[0], 100)


def test_paths_of_universal_pathlib(twins: Twins) -> None:
    """They join, go up, list and read as pathlib's do of a copy; whatever writes is refused."""
    top, copy = UPath(f"vbnfs://{OLD}", **twins.remote.storage_options), twins.copy / OLD
    table = top / "project_metadata" / "units.csv"
    assert table.fs is twins.remote
    assert table.relative_to(top).as_posix() == UNITS
    assert (table.parent.parent, table.stat().st_size, table.read_bytes()) == (top, len(LINES), LINES)
    for pattern in ("*.nwb", "*.csv", "a*"):
        assert {path.relative_to(top).as_posix() for path in top.rglob(pattern)} == {
            path.relative_to(copy).as_posix() for path in copy.rglob(pattern)
        }
    assert sorted(path.name for path in top.iterdir()) == sorted(path.name for path in copy.iterdir())
    assert pickle.loads(pickle.dumps(table)) == table
    for refused in (table.touch, table.unlink, (top / "new").touch, (top / "new").mkdir, top.rmdir):
        with pytest.raises(ReadOnlyError):
            refused()


def test_what_is_shown(twins: Twins) -> None:
    """A file system says what it is of; an open file, what it is."""
    assert re.fullmatch("<VbnfsFileSystem visual-behavior-neuropixels in .*, http://.*>", repr(twins.remote))
    assert f"{OLD}/{UNITS}" in repr(twins.remote.open(f"{OLD}/{UNITS}"))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.sampled_from([-1, 0, 1, 5, 4096, 65_535, 65_536, 200_000])),
        st.tuples(st.just("readline")),
        st.tuples(st.just("readline"), st.integers(0, 200)),
        st.tuples(st.just("readinto"), st.sampled_from([0, 1, 100, 65_536, 300_000])),
        st.tuples(st.just("readlines"), st.sampled_from([None, -1, 1, 5000])),
        st.tuples(st.just("next")),
        st.tuples(st.just("seek"), st.integers(-5, 900_000)),
        st.tuples(st.just("seek"), st.integers(-900_000, 100_000), st.sampled_from([1, 2])),
        st.tuples(st.just("seek"), st.just(0), st.just(99)),
        st.tuples(st.just("read_at"), st.integers(0, 900_000), st.sampled_from([0, 1, 5000, 300_000])),
        st.tuples(st.just("read_ranges"), st.lists(st.tuples(st.integers(0, 900_000), st.integers(0, 70_000)))),
        st.tuples(st.just("again")),
    ),
    max_size=12,
)


def taken(file: Any, name: str, *arguments: Any) -> tuple[Any, int]:
    """What a step returns, or that it is refused; and where the file stands after it."""
    try:
        return _taken(file, name, *arguments), file.tell()
    except (ValueError, OSError, StopIteration) as error:
        return "the end" if isinstance(error, StopIteration) else "refused", file.tell()


def _taken(file: Any, name: str, *arguments: Any) -> Any:
    if name == "readinto":
        buffer = bytearray(arguments[0])
        count = file.readinto(buffer)
        return bytes(buffer[:count])
    if name == "next":
        return next(file)
    if name == "read_at" and not hasattr(file, name):
        return os.pread(file.fileno(), arguments[1], arguments[0])
    if name == "read_ranges" and not hasattr(file, name):
        return [os.pread(file.fileno(), size, offset) for offset, size in arguments[0]]
    return getattr(file, name)(*arguments)


@settings(max_examples=80)
@given(
    path=st.sampled_from([f"{OLD}/{UNITS}", f"{NEW}/{SESSION}", "latest/odd/empty", f"{OLD}/odd/a b"]),
    is_fsspec=st.booleans(),
    todo=steps,
)
def test_an_open_file_is_that_of_a_copy(
    twins: Twins, path: str, is_fsspec: bool, todo: list[tuple[Any, ...]]
) -> None:
    """`vbnfs.Dataset`'s and fsspec's do what Python's own file does, or refuse it where that does.

    Bytes, lines, lists of lines, ranges; places before the beginning and behind the end; pickled on the way, too.
    """
    file = twins.remote.open(path) if is_fsspec else twins.remote.dataset.open(path)
    with open(twins.at(path.replace("latest", NEW)), "rb") as expected:
        for name, *arguments in todo:
            if name == "again":
                file = pickle.loads(pickle.dumps(file))
            else:
                assert taken(file, name, *arguments) == taken(expected, name, *arguments)
    file.close()


def test_lines_and_text(twins: Twins) -> None:
    """Lines come one by one, as bytes and as text; a closed file refuses."""
    with twins.remote.open(f"{OLD}/{UNITS}") as file:
        assert list(file) == io.BytesIO(LINES).readlines()
        file.seek(0)
        assert file.readuntil(b"xxx\n") == LINES[: LINES.index(b"xxx\n") + 4]
    for refused in (file.read, file.readline, lambda: file.readinto(bytearray(5)), lambda: file.read_at(0, 5)):
        with pytest.raises(ValueError, match="closed"):
            refused()
    with twins.remote.open(f"{OLD}/project_metadata/probes.csv", "r", newline="") as text:
        assert text.read() == "a,b\r\n1,2\r\n"
    assert twins.remote.read_text(f"{OLD}/project_metadata/probes.csv") == "a,b\n1,2\n"
    assert twins.remote.read_block(f"{OLD}/{UNITS}", 10, 30, b"\n") == twins.local.read_block(
        twins.at(f"{OLD}/{UNITS}"), 10, 30, b"\n"
    )


def test_a_file_is_known_by_its_hash(twins: Twins) -> None:
    """`ukey` and `checksum` are the manifest's hash: equal in both versions; another file has another one."""
    fs, path = twins.remote, f"{OLD}/{SESSION}"
    info = fs.info(path)
    assert re.fullmatch("[0-9a-f]{128}", info["hash"])
    assert fs.ukey(path) == fs.ukey(f"{NEW}/{SESSION}") == info["hash"] != fs.ukey(f"{OLD}/{UNITS}")
    assert fs.checksum(path) == int(info["hash"], 16)
    assert fs.modified(path) == datetime.fromtimestamp(info["mtime"], UTC)
    assert fs.sign(path).endswith(f"/{SESSION}?versionId={info['version_id']}")
    with pytest.raises(IsADirectoryError):
        fs.ukey(OLD)


def test_latest_is_the_newest_version(twins: Twins) -> None:
    """`latest` is found and not listed; a file that was opened by it is one of that version."""
    fs = twins.remote
    assert fs.ls("", detail=False) == [OLD, NEW]
    assert fs.find("latest") == [name.replace(NEW, "latest", 1) for name in fs.find(NEW)]
    with fs.open(f"vbnfs://latest/{UNITS}") as file:
        assert file.path == f"{NEW}/{UNITS}"
        assert file.full_name == f"vbnfs://{NEW}/{UNITS}"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"{UNITS}", rf"begins with one of {OLD}, {NEW}, or latest"),
        (f"{OLD}/project_metadata/unit.csv", r"no such file or folder; near it: units.csv"),
        (f"{OLD}/nothing/below", rf"^{OLD}/nothing/below: no such file or folder$"),
    ],
)
def test_what_is_not_there(twins: Twins, path: str, said: str) -> None:
    """The message names the path, and what is near it."""
    for call in (twins.remote.info, twins.remote.open, twins.remote.ukey, twins.remote.cat_file):
        with pytest.raises(FileNotFoundError, match=said):
            call(path)


WRITES: dict[str, Callable[[VbnfsFileSystem, str], object]] = {
    "mkdir": lambda fs, path: fs.mkdir(path),
    "makedirs": lambda fs, path: fs.makedirs(path, exist_ok=True),
    "rmdir": lambda fs, path: fs.rmdir(path),
    "touch": lambda fs, path: fs.touch(path),
    "pipe": lambda fs, path: fs.pipe({path: b"x"}),
    "pipe_file": lambda fs, path: fs.pipe_file(path, b"x"),
    "write_text": lambda fs, path: fs.write_text(path, "x"),
    "write_bytes": lambda fs, path: fs.write_bytes(path, b"x"),
    "put": lambda fs, path: fs.put(__file__, path),
    "put_file": lambda fs, path: fs.put_file(__file__, path),
    "upload": lambda fs, path: fs.upload(__file__, path),
    "copy": lambda fs, path: fs.copy(path, path + "2"),
    "cp_file": lambda fs, path: fs.cp_file(path, path + "2"),
    "mv": lambda fs, path: fs.mv(path, path),
    "rename": lambda fs, path: fs.rename(path, path + "2"),
    "rm": lambda fs, path: fs.rm(path, recursive=True),
    "rm_file": lambda fs, path: fs.rm_file(path),
    "delete": lambda fs, path: fs.delete(path),
    "open for writing": lambda fs, path: fs.open(path, "wb"),
    "open for text": lambda fs, path: fs.open(path, "w"),
    "open for more": lambda fs, path: fs.open(path, "ab"),
    "open for both": lambda fs, path: fs.open(path, "r+b"),
    "open anew": lambda fs, path: fs.open(path, "xb"),
    "write": lambda fs, path: fs.open(path).write(b"x"),
    "writelines": lambda fs, path: fs.open(path).writelines([b"x"]),
    "a mapping": lambda fs, path: fs.get_mapper(OLD).__setitem__("x", b"x"),
}


@pytest.mark.parametrize("name", WRITES)
def test_whatever_writes_is_refused(twins: Twins, name: str) -> None:
    """`ReadOnlyError` is vbnfs's own and an `OSError` with EROFS; it says what to do, and nothing was changed."""
    with pytest.raises(ReadOnlyError, match=r"never changes.*: (write to|open it)") as caught:
        WRITES[name](twins.remote, f"{OLD}/{UNITS}")
    assert isinstance(caught.value, OSError)
    assert (caught.value.errno, os.strerror(caught.value.errno)) == (errno.EROFS, "Read-only file system")
    assert twins.remote.cat_file(f"{OLD}/{UNITS}") == LINES


def test_ranges_come_in_one_wave(twins: Twins, tmp_path: Path) -> None:
    """Scattered ranges of two files cost their blocks, once; then nothing. A failure stands where its ranges do."""
    fs = VbnfsFileSystem(endpoint_url=twins.server.endpoint_url, cache_dir=tmp_path / "own", hdf5=False)
    paths = [f"{OLD}/{SESSION}"] * 3 + [f"{OLD}/{UNITS}", f"{OLD}/nothing", f"{OLD}/odd"]
    starts, ends = [0, 2 * BLOCK_BYTES, -1], [10, 2 * BLOCK_BYTES + 5, None]
    fs.ls("")
    twins.server.forget_requests()
    *found, missing, folder = fs.cat_ranges(paths, [*starts, 3, 0, 0], [*ends, 8, 1, 1])
    data = FILES[SESSION][: len(FILES[SESSION])]
    assert found == [*(data[slice(*one)] for one in zip(starts, ends, strict=True)), LINES[3:8]]
    assert (type(missing), type(folder)) == (FileNotFoundError, IsADirectoryError)
    assert twins.server.body_bytes <= len(data) + len(LINES)
    twins.server.forget_requests()
    fs.cat_ranges(paths[:4], [*starts, 3], [*ends, 8])
    assert twins.server.requests == []
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 1, on_error="raise")
    with pytest.raises(ValueError, match="6 paths and 2 numbers"):
        fs.cat_ranges(paths, [0, 1], 5)
    with pytest.raises(TypeError, match="list of paths"):
        fs.cat_ranges(paths[0], 0, 1)
    fs.close()


def test_arrays_of_numbers(twins: Twins) -> None:
    """cat_ranges takes NumPy's arrays and numbers."""
    paths = [f"{OLD}/{UNITS}"] * 2
    expected = [LINES[3:8], LINES[200:209]]
    assert twins.remote.cat_ranges(paths, np.array([3, 200], "u1"), np.array([8, 209], "u1")) == expected
    assert twins.remote.cat_ranges(paths, np.uint8(3), np.uint8(8)) == [LINES[3:8]] * 2


def test_many_files_come_at_once(tmp_path: Path) -> None:
    """cat asks for all files of a folder before the first one has come, and then answers as cat_file does."""
    files: dict[str, Data] = {f"many/{number}": b"%d" % number for number in range(12)}
    gate = threading.Event()
    with serve({OLD[1:]: files}) as server, ThreadPoolExecutor(1) as thread:
        fs = VbnfsFileSystem(endpoint_url=server.endpoint_url, cache_dir=tmp_path / "own")
        fs.ls("")
        server.behaviours.append(held(gate))
        found = thread.submit(fs.cat, f"{OLD}/many/*")
        try:
            server.wait_until(
                lambda server: (
                    len(
                        {
                            request.key
                            for request in server.requests
                            if request.key.rpartition("/")[0].endswith("many")
                        }
                    )
                    == 12
                ),
                seconds=60,
            )
        finally:
            gate.set()
        assert found.result() == {f"{OLD}/{name}": data for name, data in files.items()}
        fs.close()


def test_ctrl_c_ends_many_files(tmp_path: Path) -> None:
    """It is raised, and cancels what is under way, however long S3 would let all of them wait."""
    gate = threading.Event()
    files: dict[str, Data] = {f"many/{number}": b"%d" % number for number in range(3)}
    with serve({OLD[1:]: files}) as server, ThreadPoolExecutor(1) as thread:
        fs = VbnfsFileSystem(endpoint_url=server.endpoint_url, cache_dir=tmp_path / "own", io_timeout=600)
        fs.ls("")
        server.behaviours.append(held(gate))
        server.forget_requests()

        def interrupt() -> None:
            server.wait_until(lambda server: server.count() >= 3, seconds=60)
            os.kill(os.getpid(), signal.SIGINT)

        interrupted = thread.submit(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                fs.cat(f"{OLD}/many/*")
        finally:
            gate.set()
        interrupted.result()
        assert fs.cat(f"{OLD}/many/*") == {f"{OLD}/{name}": data for name, data in files.items()}
        fs.close()


def test_files_that_cat_cannot_have(twins: Twins) -> None:
    """They are left out, or have their error in their place, or it is raised, as by fsspec's local file system."""
    paths = [f"{OLD}/{UNITS}", f"{OLD}/nothing", f"{OLD}/odd/empty"]
    there = list(map(twins.at, paths))
    assert list(twins.remote.cat(paths, on_error="omit").values()) == list(
        twins.local.cat(there, on_error="omit").values()
    )
    found, expected = (
        fs.cat(names, on_error="return") for fs, names in ((twins.remote, paths), (twins.local, there))
    )
    assert list(map(type, found.values())) == list(map(type, expected.values()))
    assert twins.remote.cat(paths[:1]) == {paths[0]: LINES}
    assert twins.remote.cat(paths[::2], start=3, end=8) == {paths[0]: LINES[3:8], paths[2]: b""}
    with pytest.raises(FileNotFoundError, match="nothing"):
        twins.remote.cat(paths)


def test_threads_share_one_dataset(twins: Twins) -> None:
    """fsspec makes a file system for each thread; those with the same settings read one open dataset."""
    options = twins.remote.storage_options
    first = VbnfsFileSystem(skip_instance_cache=True, **options)

    def read(offset: int) -> tuple[object, bytes]:
        fs = fsspec.filesystem("vbnfs", **options)
        return fs.dataset, fs.cat_file(f"{OLD}/{SESSION}", offset, offset + 1000)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(read, range(0, 700_000, 20_000)))
    assert {id(dataset) for dataset, _ in found} == {id(first.dataset)}
    assert all(data == FILES[SESSION][n * 20_000 : n * 20_000 + 1000] for n, (_, data) in enumerate(found))
    assert first.fsid == pickle.loads(pickle.dumps(first)).fsid == twins.remote.fsid
    first.close()


def test_options_are_settings(twins: Twins) -> None:
    """A storage option that is no setting is refused, with the near one; fsspec's own are taken."""
    with pytest.raises(UsageError, match="no setting endpoint_ur; near it: endpoint_url"):
        fsspec.filesystem("vbnfs", endpoint_ur="x")
    assert fsspec.filesystem("vbnfs", use_listings_cache=False, **twins.remote.storage_options).exists(OLD)
    assert VbnfsFileSystem.from_json(twins.remote.to_json()).ls("", detail=False) == [OLD, NEW]


def test_offline_there_are_names(twins: Twins, tmp_path: Path) -> None:
    """Without network, what is cached is read, all names are there, and what is not cached says why it cannot be."""
    options = {"endpoint_url": twins.server.endpoint_url, "cache_dir": str(tmp_path / "own")}
    with fsspec.open(f"vbnfs://{OLD}/{UNITS}", **options) as file:
        assert file.read() == LINES
        fs = file.fs
    fs.close()
    offline = fsspec.filesystem("vbnfs", **options, offline=True)
    twins.server.forget_requests()
    assert offline.cat_file(f"{OLD}/{UNITS}") == LINES
    assert offline.find(OLD) == twins.remote.find(OLD)
    with pytest.raises(OSError, match=r"not reached|offline"):
        offline.cat_file(f"{OLD}/{SESSION}")
    [failure] = offline.cat_ranges([f"{OLD}/{SESSION}"], 0, 5)
    assert isinstance(failure, OSError)
    assert twins.server.requests == []
    offline.close()


@pytest.mark.parametrize("chain", ["simplecache", "filecache"])
def test_wrappers_of_fsspec(twins: Twins, tmp_path: Path, chain: str) -> None:
    """fsspec's own caches can stand before it."""
    options = {"vbnfs": twins.remote.storage_options, chain: {"cache_storage": str(tmp_path / "kept")}}
    with fsspec.open(f"{chain}::vbnfs://{OLD}/{UNITS}", **options) as file:
        assert file.read() == LINES


CHILD = """
import multiprocessing, pickle, sys
import fsspec

def read(fs, path, offset):
    return fs.cat_file(path, offset, offset + 1000)

if __name__ == "__main__":
    fs, file = pickle.loads(bytes.fromhex(sys.argv[1]))
    path, data = file.path, open(sys.argv[2], "rb").read()
    assert file.tell() == 5 and file.read(5) == data[5:10]
    for method, count in ("fork", 2), ("spawn", 1):
        with multiprocessing.get_context(method).Pool(count) as pool:
            places = range(0, len(data) - 1000, 150_000)
            found = pool.starmap(read, [(fs, path, offset) for offset in places])
            assert found == [data[offset:offset + 1000] for offset in places]
            assert pool.map(type(file).readline, [file]) == [data[10:data.index(b"\\n", 10) + 1]]
    print("right")
"""


def test_processes(twins: Twins, tmp_path: Path) -> None:
    """A file system and an open file, pickled into a process, and from there into forked and spawned ones."""
    (tmp_path / "program.py").write_text(CHILD)
    with twins.remote.open(f"{OLD}/{SESSION}") as file:
        file.seek(5)
        pickled = pickle.dumps((twins.remote, file)).hex()
    command = [sys.executable, "-W", "ignore::DeprecationWarning", tmp_path / "program.py", pickled]
    done = subprocess.run(
        [*command, twins.at(f"{OLD}/{SESSION}")], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "right\n", "")


def test_a_copy_is_got(twins: Twins, tmp_path: Path) -> None:
    """`get` copies a version with all its folders: the copy is the one that stands beside it."""
    twins.remote.get(f"vbnfs://{NEW}", str(tmp_path / "got"), recursive=True)
    got = {str(path.relative_to(tmp_path / "got")) for path in (tmp_path / "got").rglob("*")}
    there = twins.copy / NEW
    assert got == {str(path.relative_to(there)) for path in there.rglob("*")}
    assert all((tmp_path / "got" / name).read_bytes() == (there / name).read_bytes() for name in NEW_FILES)
    shutil.rmtree(tmp_path / "got")


def test_a_copy_that_fails(twins: Twins, tmp_path: Path) -> None:
    """What cannot be got to its end leaves no part of it, and what was there stays."""
    fs = VbnfsFileSystem(endpoint_url=twins.server.endpoint_url, cache_dir=tmp_path / "own")
    fs.ls("")
    folder, refused = tmp_path / "got", for_kind("get_range", always(error(403, "AccessDenied")))
    folder.mkdir()
    (folder / "there").write_bytes(b"before")
    twins.server.behaviours.append(refused)
    try:
        for name in ("there", "new"):
            with pytest.raises(PermissionError):
                fs.get(f"{OLD}/{SESSION}", str(folder / name))
    finally:
        twins.server.behaviours.remove(refused)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"there": b"before"}
    fs.get(f"{OLD}/{UNITS}", str(folder / "there"))
    assert (folder / "there").read_bytes() == LINES
    out = io.BytesIO()
    fs.get_file(f"{OLD}/{UNITS}", out)
    assert out.getvalue() == LINES
    fs.close()
