"""The site of this repository's documents, built once."""

from pathlib import Path

import pytest

from docsite.building import build


@pytest.fixture(scope="session")
def first_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first page of the site; building it has found nothing to warn of."""
    return build(tmp_path_factory.mktemp("site"))
