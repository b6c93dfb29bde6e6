"""Failures of an open file as Python's own: programs that read files expect `OSError`."""

import os
from types import TracebackType

from vbnfs.api.messages import put_in_python
from vbnfs.errors import StorageError, VbnfsError


def os_error(error: StorageError, name: str) -> OSError:
    """A failure to read a file of that name, as Python has it; `error` is its cause."""
    put_in_python(error)
    found = OSError(error.errno, f"{os.strerror(error.errno)}: {error}", name)
    found.__cause__ = error
    return found


class as_os_errors:  # noqa: N801 - used as a function, by each read: a generator would cost it a microsecond
    """While entered, a `StorageError` becomes the `OSError` of its errno.

    That has its message, its remedy and the file's name. Python makes the subclass that fits, as `PermissionError`
    and `TimeoutError`. Other errors of vbnfs stay what they are, with messages as `python_messages` has them.
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
            raise os_error(error, self._name) from error
        if isinstance(error, VbnfsError):
            put_in_python(error)
