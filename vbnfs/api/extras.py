"""Packages that only some of the functions need."""

import importlib
from types import ModuleType


def required(package: str, method: str, install: str | None = None) -> ModuleType:
    """A package that `method` needs. Raises `ImportError`, which says how to get it: `pip install`, and `install`."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{method}() needs {package}: pip install {install or package}", name=package) from error
