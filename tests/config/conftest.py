"""No setting comes from the machine on which the tests run."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the environment of the tests, and no TOML file is in the usual place."""
    for variable in [name for name in os.environ if name.startswith("VBNFS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
