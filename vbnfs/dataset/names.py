"""Which names a manifest may bring into the file system, and how the kernel has them (pure).

A manifest comes from outside. What it calls a file must be a plain relative path, so that no tool that walks,
copies or prints the tree can be led astray.
"""

import unicodedata
from typing import Final

MAX_NAME_BYTES: Final = 255  # NAME_MAX, limits.h
MAX_PATH_BYTES: Final = 4000  # PATH_MAX less room for a mount point
MAX_PATH_PARTS: Final = 64  # the real ones have 3 or 4; folders are walked by recursion

_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format (bidi), surrogate, line ends


def encode(name: str) -> bytes:
    """A name or path of the tree as the kernel has it: UTF-8, whatever the locale of who mounts or reads."""
    return name.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    """What the kernel asks for, as `encode` made it; what is no UTF-8 names nothing in the tree."""
    return name.decode("utf-8", "surrogateescape")


def split_path(text: str) -> tuple[str, ...]:
    """The parts of a relative path; `ValueError` tells what is wrong with it."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise ValueError(f"a path longer than {MAX_PATH_BYTES} bytes")
    if text.count("/") >= MAX_PATH_PARTS:
        raise ValueError(f"a path of more than {MAX_PATH_PARTS} parts")
    parts = tuple(text.split("/"))
    for part in parts:
        check_name(part)
    return parts


def check_name(name: str) -> None:
    """Raise `ValueError` unless `name` can stand in a folder."""
    if not name:
        raise ValueError("an empty path part (two slashes, or one at an end)")
    if name in {".", ".."}:
        raise ValueError(f"a path part {name!r}")
    if "/" in name:
        raise ValueError("a slash in a name")
    check_printable(name)
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"a name longer than {MAX_NAME_BYTES} bytes")


def check_printable(text: str) -> None:
    """Raise `ValueError` if `text` holds a control, format or surrogate character."""
    if not text.isascii() or not text.isprintable():
        for character in text:
            if unicodedata.category(character) in _UNPRINTABLE:
                raise ValueError(f"the unprintable character U+{ord(character):04X}")
