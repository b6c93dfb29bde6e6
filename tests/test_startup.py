"""Imports without what only shows things."""

import gc
import importlib
import sys
from collections.abc import Iterator

import pytest

from vbnfs.startup import frozen_gc, without_rich


@pytest.fixture(scope="module", autouse=True)
def _no_garbage_stays_frozen() -> Iterator[None]:
    """What these tests freeze is collected, and the rest is frozen again, as tests/conftest.py has it."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def test_what_is_for_show_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, importing rich fails as where it is not installed; afterwards it works."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    with without_rich(), pytest.raises(ImportError):
        importlib.import_module("rich.console")
    assert importlib.import_module("rich.console")


def test_what_is_imported_stays() -> None:
    """A library that was imported before is there inside, and afterwards."""
    rich = importlib.import_module("rich")
    with without_rich():
        assert importlib.import_module("rich") is rich
    assert sys.modules["rich"] is rich


def test_the_collector_goes_on() -> None:
    """Garbage is collected again after an import that failed."""
    with pytest.raises(ImportError), without_rich():
        importlib.import_module("vbnfs.nothing")
    assert gc.isenabled()


def test_what_stays_is_not_looked_at() -> None:
    """Nothing is collected meanwhile, and what was made is out of the collector's sight afterwards."""
    made: list[list[object]] = []
    with frozen_gc():
        made.extend([] for _ in range(10_000))
        assert not gc.isenabled()
    assert gc.get_freeze_count() > len(made)
    assert len(gc.get_objects()) < len(made)
