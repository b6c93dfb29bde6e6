"""Scripts, styles and pictures of the page: files of the package. Addresses have a hash: a new file has a new one."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_KINDS: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_FOLDERS: Final = ("", "vendored/")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file, its type for a browser, and its address."""

    data: bytes
    kind: str
    address: str


@cache
def static_files() -> dict[str, StaticFile]:
    """All of them by name, as `page.css` and `vendored/htmx.min.js`."""
    place, found = files("vbnfs.web") / "static", dict[str, StaticFile]()
    for folder in _FOLDERS:
        for one in (place / folder).iterdir():
            kind = _KINDS.get(one.name.rpartition(".")[2])
            if kind is not None:
                name, data = f"{folder}{one.name}", one.read_bytes()
                found[name] = StaticFile(data, kind, f"static/{name}?{hashlib.sha256(data).hexdigest()[:12]}")
    return found


def static_address(name: str) -> str:
    """The address of a file, from the page's first on."""
    return static_files()[name].address
