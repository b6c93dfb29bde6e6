"""Failures of an open file as Python's own: programs that read files expect `OSError`."""

import os
from types import TracebackType

from vbnfs.errors import StorageError


class as_os_errors:  # noqa: N801 - used as a function, by each read: a generator would cost it a microsecond
    """While entered, a `StorageError` becomes the `OSError` of its errno.

    That has its message, its remedy and the file's name. Python makes the subclass that fits, as `PermissionError`
    and `TimeoutError`.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, StorageError):
            message = f"{error}; {error.remedy}" if error.remedy else str(error)
            raise OSError(error.errno, f"{os.strerror(error.errno)}: {message}", self._name) from error
