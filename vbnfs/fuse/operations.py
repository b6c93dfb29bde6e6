"""The seam between the kernel and a file system: what is asked, and the values that answer it.

A file system implements `Operations` and knows nothing of the kernel's protocol. An engine (`engines.py`) asks it,
and turns the values into replies. A listing's `offset` and `size` are the engine's business, and so is the size of an
extended attribute: an operation always gives the whole.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any, NamedTuple, Protocol, TypeGuard, TypeVar, Union

_T = TypeVar("_T")
Buffer = bytes | memoryview
# A value at once, or a coroutine to wait for.
Answer = Union[_T, Coroutine[Any, Any, _T]]  # noqa: UP007 - mypy takes no `|` of a type variable for an alias


def is_later(answer: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    """Whether an `Answer` has to be waited for."""
    return isinstance(answer, CoroutineType)


class ErrnoReply(Exception):  # noqa: N818 - an answer, not a failure
    """The answer to a request is this errno. Nothing has gone wrong, and nothing is logged."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class Attr(NamedTuple):
    """What stat(2) says, as far as it differs between files here: one time, no device."""

    inode: int
    mode: int
    size_bytes: int
    blocks: int  # of 512 bytes, st_blocks
    links: int
    uid: int
    gid: int
    modified_ns: int  # since 1970; access and change times are the same
    preferred_read_bytes: int  # st_blksize


@dataclass(slots=True)
class Entry:
    """An inode's attributes, and for how long the kernel may keep them and the name under which they were met."""

    attr: Attr
    entry_seconds: float
    attr_seconds: float
    _packed: Any = field(default=None, init=False, repr=False, compare=False)

    def packed(self, pack: Callable[["Entry"], _T]) -> _T:
        """The result of `pack`, which is called once: the form in which a mount's engine hands out this entry."""
        if self._packed is None:
            self._packed = pack(self)
        packed: _T = self._packed
        return packed


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no such name, and the kernel may remember that for so long."""

    entry_seconds: float


class DirEntry(NamedTuple):
    """A name in a folder."""

    name: bytes
    inode: int
    mode: int  # of which only the kind of file counts
    entry: Entry | None  # None: of the name alone; of `.` and `..`, and while a file's size is not known


@dataclass(slots=True)
class Listing:
    """A folder's names. A listing in parts goes on at a position, which each name keeps for as long as the mount.

    None stands in the position of a name that is gone.
    """

    entries: Sequence[DirEntry | None]
    packed: bytes | None = field(default=None, init=False, repr=False, compare=False)  # the whole, by `pack`

    def pack(self, pack: Callable[["Listing"], bytes]) -> None:
        """Keep the form in which an engine hands out the whole listing."""
        if self.packed is None:
            self.packed = pack(self)


class Backing(NamedTuple):
    """A file that the kernel can read itself in the place of one of the mount: its number for it."""

    number: int


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file: its handle, and whether the kernel may keep the pages that it has of the file.

    With a `backing` (`Connection.open_backing`) the kernel reads the file from there: this is passthrough. All files
    of one inode that are open at the same time have the same one, or none has any: else open(2) fails with EIO
    (fs/fuse/iomode.c).
    """

    handle: int
    keeps_pages: bool = True
    backing: Backing | None = None
    is_direct: bool = False  # every read is asked for, whatever stat(2) says of the size


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystemStatus:
    """What statfs(2) says: blocks of `block_bytes`, free and available to users; and inodes."""

    block_bytes: int
    blocks: int
    free_blocks: int
    available_blocks: int
    inodes: int
    longest_name: int


class Operations(Protocol):
    """What a read-only file system answers.

    An operation may raise `ErrnoReply`, which is an answer. Anything else that it raises, at once or while it is
    waited for, is a failure, and `errno_of` gives the errno that is answered then.
    """

    def lookup(self, parent: int, name: bytes) -> Answer[Entry | Absent]:
        """A name in a folder."""

    def getattr(self, inode: int) -> Answer[Entry]:
        """An inode's attributes."""

    def readlink(self, inode: int, uid: int, pid: int) -> Answer[bytes]:
        """The path to which a symbolic link leads a thread of a user; `pid` is its number, 0 if unknown."""

    def list(self, inode: int) -> Answer[Listing]:
        """A folder's names. While nothing of it has changed, this is the same object each time."""

    def open(self, inode: int, flags: int, pid: int) -> Answer[Opened]:
        """A new handle on a file; `flags` as for the system call, `pid` of the thread that opens it, 0 if unknown."""

    def read(self, handle: int, offset: int, size: int) -> Answer[Buffer]:
        """Bytes of an open file, fewer than `size` only at its end."""

    def release(self, handle: int) -> None:
        """A handle is not used any more."""

    def statfs(self) -> Answer[FileSystemStatus]:
        """The state of the file system."""

    def getxattr(self, inode: int, name: bytes) -> Answer[bytes]:
        """The value of an extended attribute."""

    def listxattr(self, inode: int) -> Answer[Sequence[bytes]]:
        """The names of those extended attributes that are listed."""

    def look_ahead(self) -> Listing | None:
        """Nothing is asked at the moment: the listing that probably comes next, to be packed. Takes microseconds."""

    def errno_of(self, request: str, error: Exception) -> int:
        """The errno that a failure becomes."""
