"""Which regular expressions a query may have: those for which no text makes the match take long (pure).

Python's matcher tries one way after the other. What may be repeated, with something in it that may be repeated or be
read in two ways, has more ways than could ever be tried, and so have many repeats behind one another. So a repeat
stands behind a single character or class, and there are two of them at most, one of these a ?: the ways are then no
more than some times the square of a text's length. A longer text than `LONGEST_TEXT` is not searched for a repeat.
"""

import re
import warnings
from typing import Final

_MOST_CHARACTERS: Final = 200
_MOST_REPEATS: Final = 2
_REPEATS: Final = frozenset("*+?{")
_LONG_REPEATS: Final = frozenset("*+{")
LONGEST_TEXT: Final = 4000  # some hundredths of a second


def compiled(text: str, *, minds_case: bool, is_pattern: bool) -> re.Pattern[str]:
    """What finds a pattern, or a text as it is. Raises `re.error`, or other errors of that kind, for no pattern."""
    with warnings.catch_warnings(action="ignore"):  # of patterns that later Pythons may read otherwise
        return re.compile(text if is_pattern else re.escape(text), 0 if minds_case else re.IGNORECASE)


def why_not_taken(pattern: str) -> str | None:
    """Why a pattern is not taken; None where it is."""
    if len(pattern) > _MOST_CHARACTERS:
        return f"a pattern of {len(pattern):,} characters; at most {_MOST_CHARACTERS} are taken"
    try:
        compiled(pattern, minds_case=True, is_pattern=True)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression ({error}); regex=False takes the text as it is"
    return _why_slow(pattern)


def has_long_repeat(pattern: str) -> bool:
    """Whether something in a pattern may be repeated more than once."""
    return not _LONG_REPEATS.isdisjoint(_outside_of_classes(pattern))


def _why_slow(pattern: str) -> str | None:
    repeats, long_repeats, before = 0, 0, ""
    for one in _outside_of_classes(pattern):
        if one == "?" and before == "(":
            return "no (?...) is taken; case=False minds no case"
        if one in _REPEATS:
            repeats += 1
            long_repeats += one in _LONG_REPEATS
            if before == ")":
                return f"no {one} is taken behind a group"
        before = one
    if repeats > _MOST_REPEATS:
        return f"{repeats} repeats (*, +, ?, {{}}); at most {_MOST_REPEATS} are taken"
    if long_repeats > 1:
        return f"{long_repeats} repeats of *, +, {{}}; at most one is taken, and a ? beside it"
    return None


def _outside_of_classes(pattern: str) -> list[str]:
    """The characters of a pattern that can be compiled; an escaped one, or a class, is a blank."""
    found, at = list[str](), 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 2
        elif pattern[at] == "[":
            at = _after_class(pattern, at)
        else:
            found.append(pattern[at])
            at += 1
            continue
        found.append(" ")
    return found


def _after_class(pattern: str, at: int) -> int:
    """Behind the class that begins at `at`. A ] that stands first in it does not end it."""
    at += 2 if pattern[at + 1] == "^" else 1
    at += 1 if pattern[at] == "]" else 0
    while pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1
