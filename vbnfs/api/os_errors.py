"""Failures as a program in Python expects them: those of files are `OSError`, and messages name settings.

Messages are written for all ways to use vbnfs, and name options of commands. Here `--cache-size` is `cache_size`, as
`vbnfs.Dataset` and fsspec's storage options have it. Commands that a message quotes stay as they are.
"""

import os
import re
from types import TracebackType
from typing import Final

from vbnfs.config.settings import SETTING_BY_NAME
from vbnfs.errors import StorageError, VbnfsError

_ARGUMENTS: Final = frozenset({"behavior_only", "fetch", "having", "lfp", "sessions"})  # of methods
_OPTION: Final = re.compile(r"'vbnfs [^']*'|(?<![\w/-])--([a-z]+(?:-[a-z]+)*)(?:-\.\.\.)?")


def in_python(text: str) -> str:
    """A message, with the names that settings and arguments have in Python."""

    def renamed(match: re.Match[str]) -> str:
        name = (match[1] or "").replace("-", "_")
        return name if name in SETTING_BY_NAME or name in _ARGUMENTS else match[0]

    return _OPTION.sub(renamed, text)


def reword(error: VbnfsError) -> None:
    """Have an error's message and remedy be as Python has them. Once more changes nothing."""
    error.args = (in_python(str(error)),)
    if error.remedy != (remedy := in_python(error.remedy)):
        error.remedy = remedy


def os_error(error: StorageError, name: str) -> OSError:
    """A failure to read a file of that name, as Python has it; `error` is its cause."""
    reword(error)
    message = f"{error}; {error.remedy}" if error.remedy else str(error)
    found = OSError(error.errno, f"{os.strerror(error.errno)}: {message}", name)
    found.__cause__ = error
    return found


class as_os_errors:  # noqa: N801 - used as a function, by each read: a generator would cost it a microsecond
    """While entered, a `StorageError` becomes the `OSError` of its errno; the messages of all errors are Python's.

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
            raise os_error(error, self._name) from error
        if isinstance(error, VbnfsError):
            reword(error)
