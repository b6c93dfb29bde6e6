"""The page of a small release, asked as a browser that has been let in asks."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.api.release import serving
from tests.fakes.s3_server import FakeS3Server
from vbnfs.config.sources import load_settings
from vbnfs.web.app import make_app
from vbnfs.web.copied import Lines
from vbnfs.web.guard import PROOF, TOKEN, Guard, Keys
from vbnfs.web.house import House
from vbnfs.web.rendering import Pages

FINDINGS = (
    {"check": "kernel", "level": "good", "text": "Linux 6.9", "remedy": None, "see": None},
    {"check": "disk", "level": "to do", "text": "<full>", "remedy": "'vbnfs clean'", "see": "docs#disk-full"},
)
ADDRESS = "http://127.0.0.1:8791"


@dataclass(frozen=True)
class Visit:
    """A page that is served, and a browser in it. `stranger` has no cookie."""

    house: House
    keys: Keys
    browser: TestClient
    stranger: TestClient


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """Two versions of a release with a session, its LFP and five tables."""
    with serving(tmp_path_factory.mktemp("release")) as server:
        yield server


@pytest.fixture
def visit(server: FakeS3Server) -> Iterator[Visit]:
    """The page of that release."""
    with visiting(server) as visit:
        yield visit


@contextmanager
def visiting(
    server: FakeS3Server,
    *,
    seconds: float = 60.0,
    cache: Path | None = None,
    given: Mapping[str, str] | None = None,
    cache_size: str | None = None,
) -> Iterator[Visit]:
    """The page of what a server has. A view waits for tables for some seconds before it says that they are read.

    `cache`: another cache folder than the test's own. `given`: the options of the command, which lines to copy have.
    `cache_size`: what the cache may take; None: the default.
    """
    keys = Keys()
    options = {"endpoint_url": server.endpoint_url} | ({} if cache is None else {"cache_dir": str(cache)})
    options |= {} if cache_size is None else {"cache_size": cache_size}
    loaded = load_settings(command_line={**options, **(given or {})})
    config, lines = loaded.config, Lines() if given is None else Lines.of(loaded)
    house = House(config, lines=lines, examine=lambda: FINDINGS, patience=lambda size_bytes: seconds)
    app = Guard(make_app(house, Pages(proof=keys.proof, dataset=house.config.project)), keys, hosts=["hub.example"])
    with (
        closing(house),  # also after a test that fails
        TestClient(app, base_url=ADDRESS) as browser,
        TestClient(app, base_url=ADDRESS) as stranger,
    ):
        browser.get("/", params={TOKEN: keys.token})
        browser.headers[PROOF] = keys.proof
        yield Visit(house, keys, browser, stranger)
