"""What speaks to the kernel for a mount: an engine makes a `Connection`, which asks a file system and answers."""

from typing import Protocol

import trio


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

    def close(self) -> None:
        """End the connection: the kernel answers requests that still wait. The mount has to be taken away."""
