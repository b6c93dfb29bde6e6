"""Orders of jobs on the disk, as long as they run: a page that begins later knows of those that came to no end.

    web-jobs-v1/<scope>/job-<random>     JSON (`Order`), locked by the process whose job it is
    web-jobs-v1/<scope>/left-<random>    the same, of a job that ended with its page

All of it is advice. Where no file can be made, a job is not remembered, and nothing else happens.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import structlog

from vbnfs.errors import CacheError
from vbnfs.host.atomic import remove_abandoned, temporary_file
from vbnfs.host.folders import Folder
from vbnfs.host.places import Place, open_file
from vbnfs.host.positioned import read_at, write_all
from vbnfs.web.orders import Order, parse_order

FORMAT: Final = "web-jobs-v1"
_RUNNING: Final = "job-"
_LEFT: Final = "left-"
_MOST_BYTES: Final = 8 << 20
_MOST_ORDERS: Final = 20

log = structlog.get_logger()


class Note:
    """An order on the disk. `is_left`: its job ends with the page, and a later page is to know."""

    is_left = False


class Unfinished:
    """The orders of the pages that have a folder of the cache; `folder` need not exist."""

    def __init__(self, folder: Place) -> None:
        self._folder = folder

    @contextmanager
    def noted(self, order: Order) -> Iterator[Note]:
        """While entered, an order is on the disk."""
        note = Note()
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(self._folder.opened(make=True))
                descriptor, name = stack.enter_context(temporary_file(folder, prefix=_RUNNING))
                write_all(descriptor, [order.as_json()], 0)
            except (OSError, CacheError) as error:
                log.warning("a job of the page is not remembered", reason=str(error))
                yield note
                return
            try:
                yield note
            finally:
                if note.is_left:
                    with suppress(OSError):
                        folder.replace(name, _LEFT + name.removeprefix(_RUNNING))

    def take(self) -> list[Order]:
        """The orders of jobs that ended with their pages; they are forgotten by that."""
        found = list[Order]()
        with suppress(OSError, CacheError), self._folder.opened() as folder:
            for name in folder.names():
                with suppress(OSError, ValueError, RecursionError):
                    order = _read(folder, name)
                    if name.startswith(_RUNNING):
                        remove_abandoned(folder, name)
                    else:
                        folder.unlink(name)
                    if name not in folder.names():
                        found.append(order)
        return found[-_MOST_ORDERS:]


def _read(folder: Folder, name: str) -> Order:
    descriptor = open_file(folder, name, os.O_RDONLY)
    try:
        return parse_order(read_at(descriptor, _MOST_BYTES, 0))
    finally:
        os.close(descriptor)
