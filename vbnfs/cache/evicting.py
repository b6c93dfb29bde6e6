"""The lock of the process that evicts: others that would evict let it, and who stores a pin waits for its end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from vbnfs.cache.content_folder import FORMAT
from vbnfs.host.locks import lock_patiently
from vbnfs.host.places import Place

log = structlog.get_logger()

_LOCK: Final = f"{FORMAT}/.evicting"
_PATIENCE_SECONDS: Final = 10.0  # with an eviction of many contents; one that takes longer hangs, or is stopped


@contextmanager
def only_evictor(directory: Place, seconds: float) -> Iterator[bool]:
    """Whether no other process is evicting, after so long at the most: two would delete twice as much as is needed.

    Where no lock can be had, or not in time, that is all that can happen, and better than a cache that grows without
    end.
    """
    descriptor, is_alone = -1, True
    try:
        descriptor = (directory / _LOCK).open(os.O_RDWR | os.O_CREAT)
        is_alone = lock_patiently(descriptor, seconds)
    except OSError as error:
        log.warning("evicting without a lock", reason=str(error))
    try:
        yield is_alone
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def no_eviction(directory: Place) -> Iterator[None]:
    """While entered, no process chooses or deletes, as far as locks can be had: keep it short.

    An eviction that is under way is waited for, some seconds at the most.
    """
    descriptor = -1
    try:
        descriptor = (directory / _LOCK).open(os.O_RDWR | os.O_CREAT)
        lock_patiently(descriptor, _PATIENCE_SECONDS)
    except OSError as error:  # no locks, or no contents yet
        log.debug("not kept from evicting", reason=str(error))
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)
