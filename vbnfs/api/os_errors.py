"""Failures of an open file as Python's own: programs that read files expect `OSError`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from vbnfs.errors import StorageError


@contextmanager
def as_os_errors(name: str) -> Iterator[None]:
    """Raise a `StorageError` as the `OSError` of its errno, with its message, remedy and the file's name.

    Python makes the subclass that fits, as `PermissionError` and `TimeoutError`.
    """
    try:
        yield
    except StorageError as error:
        message = f"{error}; {error.remedy}" if error.remedy else str(error)
        raise OSError(error.errno, f"{os.strerror(error.errno)}: {message}", name) from error
