"""What programs give as arguments: of the type that is wanted, or refused in words (pure).

Where nothing looked, a wrong type would be an error of some method that it lacks, or be taken for something else.
"""

from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import PurePath
from typing import SupportsInt


def text(value: object, what: str, such_as: str) -> str:
    """A text. Raises `TypeError`, which says what is wanted: `what`, and an example."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is text, such as {such_as!r}, and not {value!r}")
    return value


def texts(values: str | Iterable[str], what: str, such_as: str) -> tuple[str, ...]:
    """Several texts; one alone will do."""
    return tuple(text(one, what, such_as) for one in ([values] if isinstance(values, str) else values))


def path_text(path: str | PathLike[str]) -> str:
    """A file's path in the dataset, with slashes also where the system has others. Raises `TypeError`."""
    return path.as_posix() if isinstance(path, PurePath) else fspath(path)


def version_name(name: object) -> str:
    """A version by its name, `0.5.0`, or by that of its folder, `v0.5.0`. Raises `TypeError`."""
    return text(name, "a dataset version", "0.5.0").removeprefix("v")


def session_number(session_id: SupportsInt | str) -> int:
    """A session's id. Raises `ValueError` for what is no whole number, `TypeError` for what is no number at all."""
    wanted = f"a session's id is a whole number, such as 1044385384, and not {session_id!r}"
    try:
        number = int(session_id)
    except TypeError as error:
        raise TypeError(wanted) from error
    except (ValueError, OverflowError) as error:
        raise ValueError(wanted) from error
    if not isinstance(session_id, str) and number != session_id:
        raise ValueError(wanted)
    return number
