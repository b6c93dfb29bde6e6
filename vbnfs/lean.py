"""Importing what a mount is made of, in the least time: of starting one, nearly all is Python's imports.

httpx and structlog import rich and pygments where these are installed, for a command line and for tracebacks that
nobody sees here; that would be a fifth of all. And what modules are made of stays: the collector need not look at it.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

_FOR_SHOW: Final = ("rich", "pygments")


@contextmanager
def lean_imports() -> Iterator[None]:
    """While entered, rich and pygments count as not installed, unless they are imported already."""
    modules = cast(dict[str, Any], sys.modules)  # None: the import fails, sys.modules in the library reference
    hidden = [name for name in _FOR_SHOW if name not in modules]
    modules.update(dict.fromkeys(hidden))
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        for name in hidden:
            del modules[name]
