"""Whose program asks the page: the kernel says it of each connection.

A cookie knows no ports. A browser that is led to another user's server, at another port of this machine, hands it the
page's cookie. So the cookie alone lets nobody in: the program that asks has to be of the page's user, or root's.
"""

import sys
from typing import Final

from vbnfs.host.identity import our_uid
from vbnfs.host.tcp_peers import Address, user_of_connection

_ROOT: Final = 0


def is_stranger(client: Address, server: Address) -> bool:
    """Whether a connection is of another user's program, or on Linux of one of which that is not known.

    The addresses are those of its two ends.
    """
    try:
        user = user_of_connection(client, server)
    except OSError:
        return sys.platform == "linux"
    return user not in {our_uid(), _ROOT}
