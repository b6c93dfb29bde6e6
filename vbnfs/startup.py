"""Starting in the least time, of which Python's imports are nearly all, and a large release's manifests the rest.

httpx and structlog import rich and pygments where these are installed, for a command line and for tracebacks that
nobody sees here; that would be a fifth of all.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

_FOR_SHOW: Final = ("rich", "pygments")


@contextmanager
def without_rich() -> Iterator[None]:
    """While entered, rich and pygments count as not installed, unless they are imported already."""
    modules = cast(dict[str, Any], sys.modules)  # None: the import fails, sys.modules in the library reference
    hidden = [name for name in _FOR_SHOW if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        with frozen_gc():
            yield
    finally:
        for name in hidden:
            del modules[name]


@contextmanager
def frozen_gc() -> Iterator[None]:
    """While entered, nothing is looked at by the collector, and what is there at the end never will be."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
