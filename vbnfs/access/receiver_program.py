"""A program: receives for a daemon, which is at the other end of the socket that is its standard input.

It ends with that socket, and by no signal that a terminal or a supervisor sends to a whole group: the daemon may be
going to read until it has ended.
"""

import socket

from vbnfs.host.message_link import ignore_ends
from vbnfs.startup import without_rich


def main() -> None:
    """Receive until the daemon has ended."""
    ignore_ends()
    with without_rich():
        from vbnfs.cache.file_store import FileStore  # noqa: PLC0415 - it takes a while
        from vbnfs.s3.receiver_child import serve  # noqa: PLC0415
    with socket.socket(fileno=0) as connection:
        serve(connection, FileStore)


if __name__ == "__main__":
    main()
