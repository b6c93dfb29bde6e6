"""What speaks to the kernel for a mount: an engine makes a `Connection`, which asks a file system and answers.

`native` is this package's own, pyfuse3 is libfuse's. `ENGINES` declares in what they differ, which docs/mounting.md
shows.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import trio

from vbnfs.errors import MountError
from vbnfs.fuse.operations import Backing, Operations

NATIVE: Final = "native"
PYFUSE3: Final = "pyfuse3"


class Connection(Protocol):
    """A mount, from being made to `close`."""

    agreed: trio.Event  # set when the kernel has sent its first request, and can send others

    async def serve(self) -> None:
        """Answer requests until the mount is gone, or `stop` was called and what was asked before is answered."""

    def stop(self) -> None:
        """Take no more requests."""

    def invalidate_attributes(self, inode: int) -> None:
        """Have the kernel ask for an inode's attributes again; its pages stay. Called in a thread. Raises `OSError`.

        It is no error if the kernel does not know the inode, or if the mount is gone.
        """

    def open_backing(self, descriptor: int) -> Backing:
        """Have the kernel be able to read an open regular file by itself; it may be closed then.

        Raises `OSError`. ENOTSUP: this engine, or this kernel, cannot. EPERM: this process may not. ELOOP: not a file
        of that file system. It waits for no request.
        """

    def close_backing(self, backing: Backing) -> None:
        """No file is opened with this backing any more; those that are open are read on. Raises no error."""

    def close(self) -> None:
        """End the connection: the kernel answers requests that still wait. The mount has to be taken away."""


class Mount(Protocol):
    """How an engine mounts."""

    def __call__(
        self,
        mountpoint: Path,
        options: Iterable[str],
        operations: Operations,
        *,
        is_busy: Callable[[], bool],
        stack_depth: int = 0,
    ) -> Connection:
        """Mount on a folder, with options as for mount(8). Raises `MountError` with the reason.

        While `is_busy`, there is more to do than to look for requests. `stack_depth`: the kernel may be given files
        to read by itself. With 1 they may be on a file system that is not stacked on others, with 2 on an overlay,
        too; then nothing can be stacked on the mount. With 0 there is none of this.
        """


def _meaning(text: str) -> dict[str, str]:
    return {"meaning": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """In what engines differ. All that a mount shows is the same with each of them."""

    needs_no_compiler: bool = field(metadata=_meaning("installed without a compiler"))
    keeps_listings: bool = field(metadata=_meaning("the kernel keeps listings, and asks for a folder's names once"))
    opens_no_folders: bool = field(metadata=_meaning("folders are listed without being opened first"))
    makes_listings_ahead: bool = field(
        metadata=_meaning("the next listing of a walk is packed before it is asked for")
    )
    reads_files_itself: bool = field(metadata=_meaning("the kernel can read whole cached files by itself"))
    ends_aborted_requests: bool = field(metadata=_meaning("requests end at once when the mount is aborted"))
    heeds_interrupts: bool = field(metadata=_meaning("Ctrl-C ends waiting for a name or a size that S3 is asked for"))
    background_reads: int = field(metadata=_meaning("reads ahead under way at the most"))
    waiting_requests: int | None = field(metadata=_meaning("requests that wait at the same time, at the most"))


ENGINES: Final[Mapping[str, Capabilities]] = {
    NATIVE: Capabilities(
        needs_no_compiler=True,
        keeps_listings=True,
        opens_no_folders=True,
        makes_listings_ahead=True,
        reads_files_itself=True,
        ends_aborted_requests=True,
        heeds_interrupts=True,
        background_reads=64,
        waiting_requests=None,
    ),
    PYFUSE3: Capabilities(
        needs_no_compiler=False,
        keeps_listings=False,
        opens_no_folders=False,
        makes_listings_ahead=False,
        reads_files_itself=False,
        ends_aborted_requests=False,
        heeds_interrupts=False,
        background_reads=12,  # the kernel's own
        waiting_requests=1000,
    ),
}


def load(name: str) -> Mount:
    """How the engine of this name mounts. Only that one is imported. Raises `MountError` if it is not installed."""
    if name == NATIVE:
        from vbnfs.fuse.server import mount as native_mount  # noqa: PLC0415

        return native_mount
    try:
        from vbnfs.fuse.pyfuse3_engine import mount  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MountError(
            f"--fuse {name}: {error}; pip install 'vbnfs[{name}]', which is compiled and needs a C compiler,"
            " pkg-config and the headers of libfuse 3 and Python, or mount with --fuse native"
        ) from error
    return mount
