"""The lock of the process that evicts: others that would evict let it, and who stores a pin waits for its end.

blocks-v2/.evicting     a file that is locked; where several hosts use the cache, claims-v1/.evicting, a mark
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from vbnfs.cache import host_claims
from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.marks import remove_mark, wait_for_mark
from vbnfs.host.locks import lock_patiently
from vbnfs.host.places import Place

log = structlog.get_logger()

_NAME: Final = ".evicting"
_PATIENCE_SECONDS: Final = 10.0  # with an eviction of many contents; one that takes longer hangs, or is stopped


@contextmanager
def only_evictor(directory: Place, seconds: float) -> Iterator[bool]:
    """Whether no other process is evicting, after so long at the most: two would delete twice as much as is needed.

    Where no lock can be had, or not in time, that is all that can happen, and better than a cache that grows without
    end.
    """
    lock = _Lock(directory)
    is_alone = True
    try:
        is_alone = lock.take(seconds)
    except OSError as error:
        log.warning("evicting without a lock", reason=str(error))
    try:
        yield is_alone
    finally:
        lock.give_back()


@contextmanager
def no_eviction(directory: Place) -> Iterator[None]:
    """While entered, no process chooses or deletes, as far as locks can be had: keep it short.

    An eviction that is under way is waited for, some seconds at the most.
    """
    lock = _Lock(directory)
    try:
        lock.take(_PATIENCE_SECONDS)
    except OSError as error:  # no locks, or no contents yet
        log.debug("not kept from evicting", reason=str(error))
    try:
        yield
    finally:
        lock.give_back()


class _Lock:
    """The lock of a cache directory, for one who takes it once. Methods may wait for the disk."""

    def __init__(self, directory: Place) -> None:
        self._directory = directory
        self._descriptor = -1
        self._is_marked = False

    def take(self, seconds: float) -> bool:
        """Whether it could be had, after so long at the most. Raises `OSError` where there are no locks."""
        with self._directory.opened() as folder:
            is_shared = folder.is_shared
        if is_shared:
            with (self._directory / host_claims.FORMAT).opened(make=True) as folder:
                self._is_marked = wait_for_mark(folder, _NAME, seconds)
            return self._is_marked
        self._descriptor = (self._directory / f"{FORMAT}/{_NAME}").open(os.O_RDWR | os.O_CREAT)
        return lock_patiently(self._descriptor, seconds)

    def give_back(self) -> None:
        """Give back what was taken, if anything was. Raises nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        if self._is_marked:
            with suppress(OSError), (self._directory / host_claims.FORMAT).opened() as folder:
                remove_mark(folder, _NAME)
