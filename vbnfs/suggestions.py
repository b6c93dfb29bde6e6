"""What a person may have meant by a name that there is not (pure)."""

from collections.abc import Iterable
from typing import Final

_MOST: Final = 3
_ALIKE: Final = 0.6  # difflib's own measure of what is near
_LEAST_LETTERS: Final = 3


def near(name: str, names: Iterable[str]) -> list[str]:
    """The names that are nearest to a wrong one, the nearest first; letters' case plays no part."""
    import difflib  # noqa: PLC0415 - only for a name that is wrong

    by_lower = {one.lower(): one for one in names}
    found = difflib.get_close_matches(name.lower(), by_lower, _MOST, _ALIKE)
    is_long = len(name) >= _LEAST_LETTERS
    within = [lower for lower in by_lower if is_long and name.lower() in lower and lower not in found]
    return [by_lower[lower] for lower in (*found, *within)][:_MOST]


def near_paths(path: str, paths: Iterable[str]) -> list[str]:
    """The paths that are nearest to a wrong one: those with its last part, or with one that is near that."""
    by_name: dict[str, list[str]] = {}
    for one in paths:
        by_name.setdefault(one.rpartition("/")[2], []).append(one)
    last = path.rpartition("/")[2]
    return [one for name in ([last] if last in by_name else near(last, by_name)) for one in by_name[name]][:_MOST]


def hint(name: str, names: Iterable[str]) -> str:
    """The nearest names as the end of a message, `; near it: A, B`; '' where none is near."""
    nearest = near(name, names)
    return f"; near it: {', '.join(nearest)}" if nearest else ""
