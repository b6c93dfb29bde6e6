"""The names of the tree: which ones a manifest may bring, which ones vbnfs gives, how the kernel has them (pure).

A manifest comes from outside. What it calls a file must be a plain relative path, so that no program that walks,
copies or prints the tree is misled.
"""

import unicodedata
from typing import Final

MANIFESTS: Final = "manifests"  # the folder of manifests: in the bucket, in AllenSDK's cache, and in the mount
LATEST: Final = "latest"  # as a dataset version: the newest; in the mount: a link to the version at the top
README: Final = "README.txt"

MAX_NAME_BYTES: Final = 255  # NAME_MAX, limits.h
MAX_PATH_BYTES: Final = 4000  # PATH_MAX less room for a mount point
MAX_PATH_PARTS: Final = 64  # the real ones have 3 or 4; folders are walked by recursion

_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format (bidi), surrogate, line ends


def encode(name: str) -> bytes:
    """A name or path of the tree as the kernel has it: UTF-8, whatever the locale of the daemon or the reader."""
    return name.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    """The inverse of `encode`; bytes that are not UTF-8 become a name that is not in the tree."""
    return name.decode("utf-8", "surrogateescape")


def split_path(text: str) -> tuple[str, ...]:
    """The parts of a relative path. Raises `ValueError`, which names the fault."""
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
