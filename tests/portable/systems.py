"""A process as on macOS or on Windows: for modules of vbnfs, and for the paths of pathlib.

    become("win32", processes=FOLDER)

What a system lacks is taken away by name, as typeshed has it (typeshed.py). What it does otherwise is done so here.
Each of these stands in Python's documentation of `os`, or in Microsoft's of the function that Python calls. Libraries
find Linux as ever, as they would find their own system there. `processes` is a folder in which those processes stand
that are on this Windows together: what one has open no other renames or deletes.
"""

import builtins
import errno
import fcntl
import io
import os
import selectors
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, AnyStr, Final, Generic, Self

from tests.fakes.msvcrt import msvcrt
from tests.portable.typeshed import System, has_module, lacking

_TAKEN_FROM: Final = ("os", "socket", "select", "signal", "mmap", "errno", "time", "fcntl")
_OTHERWISE: Final = ("selectors", "ctypes", "sys")  # nothing is taken from them
_ABSENT: Final = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "msvcrt")
_PYFUSE3: Final = "pyfuse3"  # it has no wheels, and libfuse is Linux's
_LINUX_FOLDERS: Final = ("/proc/", "/sys/", "/dev/")
_BINARY: Final = 0x8000  # O_BINARY: on Linux O_LARGEFILE, which changes nothing
_CREATED_NS: Final = 1_700_000_000_123_456_700  # st_ctime: of the creation, which no write changes


class _Seen(ModuleType):
    """A module as it is seen: without some of its names, and with others."""

    def __init__(self, real: ModuleType, hidden: frozenset[str], instead: Mapping[str, object]) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _hidden=hidden, _instead=instead)

    def __getattr__(self, name: str) -> Any:
        if name in self._instead:
            return self._instead[name]
        if name in self._hidden:
            raise AttributeError(f"module {self._real.__name__!r} has no attribute {name!r}", name=name)
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real, name, value)


def become(system: System, *, processes: Path) -> None:
    """Have modules of vbnfs that are imported from now on find what the system has."""
    assert not any(name.startswith("vbnfs.") for name in sys.modules)
    is_one_of(processes)
    instead = _on_macos() if system == "darwin" else _on_windows(_Windows(processes))
    absent = {name for name in _ABSENT if not has_module(name, system)} | {_PYFUSE3}
    modules = {
        name: _seen(name, system, instead.get(name, {})) for name in (*_TAKEN_FROM, *_OTHERWISE) if name not in absent
    }
    modules |= {name: new for name, new in instead.items() if isinstance(new, ModuleType)}
    _import_so(modules, frozenset(absent) - modules.keys())
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "pathlib"]:
        if hasattr(module, "os"):
            module.os = modules["os"]  # type: ignore[attr-defined]
    builtins.open = io.open = _without_linux(io.open)  # type: ignore[assignment]
    for name in ("stat", "listdir", "readlink", "scandir"):
        setattr(os, name, _without_linux(getattr(os, name)))


def is_one_of(processes: Path) -> None:
    """Have this process, which may have been forked since, be one of those."""
    os.close(os.open(processes / str(os.getpid()), os.O_WRONLY | os.O_CREAT, 0o600))


def _seen(name: str, system: System, instead: Any) -> ModuleType:
    real = __import__(name)
    hidden = lacking(name, system) if name in _TAKEN_FROM else frozenset()
    return _Seen(real, hidden, instead)


def _import_so(modules: Mapping[str, ModuleType], absent: frozenset[str]) -> None:
    real = builtins.__import__

    def import_(name: str, globals: Any = None, *more: Any, **others: Any) -> ModuleType:  # noqa: A002 - as Python's
        top = name.partition(".")[0]
        if str((globals or {}).get("__name__", "")).partition(".")[0] == "vbnfs":
            if top in absent:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if top in modules and name in {top, "os.path"}:
                return modules[top]
        return real(name, globals, *more, **others)

    builtins.__import__ = import_  # type: ignore[assignment]


def _without_linux(real: Callable[..., Any]) -> Callable[..., Any]:
    """A function of paths that finds none of the folders that the kernel makes."""

    def function(path: Any, *arguments: Any, **more: Any) -> Any:
        if not isinstance(path, int) and os.fsdecode(path).startswith(_LINUX_FOLDERS) and path != os.devnull:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return real(path, *arguments, **more)

    return function


def _refused(*arguments: object, **more: object) -> Any:
    raise OSError(errno.ENOENT, "no such library, or no such system call")


def _on_macos() -> dict[str, dict[str, object]]:
    """Its `struct flock`, and its kinds of locks (sys/fcntl.h); system calls have other numbers."""
    return {
        "os": {"uname": lambda: os.uname_result(("Darwin", "host", "24.0.0", "", "x86_64"))},
        "fcntl": {"F_RDLCK": 1, "F_UNLCK": 2, "F_WRLCK": 3, "ioctl": _refused},
        "selectors": {"DefaultSelector": selectors.PollSelector},
        "ctypes": {"CDLL": _refused, "PyDLL": _refused},
        "sys": {"platform": "darwin"},
    }


def _on_windows(windows: "_Windows") -> dict[str, Any]:
    return {
        "os": windows.names(),
        "selectors": {"DefaultSelector": selectors.SelectSelector},
        "mmap": {"mmap": type("mmap", (), {})},
        "ctypes": {"CDLL": _refused, "PyDLL": _refused},
        "sys": {"platform": "win32"},
        "msvcrt": msvcrt(),
    }


class _Status:
    """What `os.stat` says on Windows: whether a file can be written, and nothing of users and blocks."""

    st_uid = st_gid = 0
    st_ctime_ns = _CREATED_NS
    st_ctime = _CREATED_NS / 1e9

    def __init__(self, real: os.stat_result) -> None:
        bits = 0o777 if stat.S_ISDIR(real.st_mode) else 0o666
        self.st_mode = stat.S_IFMT(real.st_mode) | (bits if real.st_mode & 0o200 else bits & 0o555)
        self.st_ino, self.st_dev, self.st_nlink, self.st_size = real.st_ino, real.st_dev, real.st_nlink, real.st_size
        self.st_mtime, self.st_mtime_ns = real.st_mtime, real.st_mtime_ns
        self.st_atime, self.st_atime_ns = real.st_atime, real.st_atime_ns


class _Entry(Generic[AnyStr]):
    """`os.DirEntry`, with such a status."""

    def __init__(self, real: "os.DirEntry[str]") -> None:
        self._real = real
        self.name, self.path = real.name, real.path
        self.is_dir, self.is_file, self.is_symlink = real.is_dir, real.is_file, real.is_symlink

    def stat(self, *, follow_symlinks: bool = True) -> _Status:
        return _Status(self._real.stat(follow_symlinks=follow_symlinks))


class _Entries:
    def __init__(self, real: "Iterator[os.DirEntry[str]]") -> None:
        self._found = [_Entry(each) for each in real]

    def __iter__(self) -> Iterator[_Entry]:
        return iter(self._found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Windows:
    """The functions of `os` that do something else there."""

    def __init__(self, processes: Path) -> None:
        self._processes = processes
        self._open, self._scandir = os.open, os.scandir

    def names(self) -> dict[str, object]:
        """Them, by their names."""
        of_two = {name: self._of_two(getattr(os, name)) for name in ("rename", "replace")}
        of_one = {name: self._of_one(getattr(os, name)) for name in ("unlink", "remove", "rmdir")}
        by_path = {name: _by_path(getattr(os, name)) for name in ("mkdir", "utime", "listdir", "chmod", "readlink")}
        return {
            **of_two,
            **of_one,
            **by_path,
            "open": self.open,
            "stat": _status_of(os.stat),
            "lstat": _status_of(os.lstat),
            "fstat": _status_of(os.fstat),
            "scandir": lambda path: _Entries(_by_path(self._scandir)(path)),
            "fsync": _fsync,
            "stat_result": _Status,
            "DirEntry": _Entry,
            "supports_dir_fd": set(),
            "supports_fd": set(),
            "O_BINARY": _BINARY,
            "O_NOINHERIT": 0,
        }

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """Opens no folders, and text unless O_BINARY is given: that would change bytes, so all give it."""
        assert dir_fd is None
        assert flags & _BINARY or path == os.devnull, f"{path} is opened as text"
        if Path(os.fsdecode(path)).is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return self._open(path, flags, mode)

    def _of_one(self, real: Callable[..., None]) -> Callable[..., None]:
        def function(path: Any) -> None:
            self._check(path)
            real(path)

        return function

    def _of_two(self, real: Callable[..., None]) -> Callable[..., None]:
        def function(source: Any, to: Any) -> None:
            if real is os.rename and os.path.lexists(to):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, to)
            self._check(source)
            self._check(to)
            real(source, to)

        return function

    def _check(self, path: Any) -> None:
        """A file that is open, or a folder with one in it, is kept as it is (ERROR_SHARING_VIOLATION)."""
        wanted = os.path.realpath(os.fsdecode(path))
        for process in os.listdir(self._processes):
            for opened in _open_in(process):
                if opened == wanted or opened.startswith(f"{wanted}/"):
                    raise PermissionError(errno.EACCES, "it is being used by another process", path)


def _open_in(process: str) -> Iterator[str]:
    folder = f"/proc/{process}/fd"
    try:
        names = _LISTDIR(folder)
    except OSError:
        return
    for name in names:
        try:
            yield _READLINK(f"{folder}/{name}")
        except OSError:
            continue


_LISTDIR: Final = os.listdir
_READLINK: Final = os.readlink


def _by_path(real: Callable[..., Any]) -> Callable[..., Any]:
    def function(path: Any = ".", *arguments: Any, **more: Any) -> Any:
        if isinstance(path, int):
            raise TypeError("path should be string, bytes or os.PathLike, not int")
        if any(more.get(name) is not None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
            raise NotImplementedError("dir_fd unavailable on this platform")
        return real(path, *arguments, **more)

    return function


def _status_of(real: Callable[..., os.stat_result]) -> Callable[..., _Status]:
    def function(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> _Status:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        return _Status(real(path) if follow_symlinks else real(path, follow_symlinks=False))

    return function


def _fsync(descriptor: int) -> None:
    """_commit() is for those who may write."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    os.fsync(descriptor)
