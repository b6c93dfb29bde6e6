"""Starting in the least time. Nearly all of it is Python's imports; the rest is parsing a large release's manifests.

httpx and structlog import rich and pygments if these are installed, for a command line and for tracebacks that vbnfs
does not show. That would be a fifth of the starting time.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

_UNWANTED: Final = ("rich", "pygments")


@contextmanager
def without_rich() -> Iterator[None]:
    """While entered, importing rich and pygments fails, unless they are imported already."""
    modules = cast(dict[str, Any], sys.modules)  # None: the import fails, sys.modules in the library reference
    hidden = [name for name in _UNWANTED if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        with frozen_gc():
            yield
    finally:
        for name in hidden:
            del modules[name]


@contextmanager
def frozen_gc() -> Iterator[None]:
    """While entered, the cyclic garbage collector is off. Objects that exist at the end are never scanned by it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
