"""What tests of the catalog have in common."""

from pathlib import Path

import pytest

from tests.dataset.bucket import Bucket


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "kept")
