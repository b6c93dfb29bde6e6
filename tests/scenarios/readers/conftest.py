"""One mount of the tiny release, at `vbn` in a home folder, for all readers; and the files that it was made of."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures_mount import Mount, Mounts
from tests.scenarios.readers.truth import Truth
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease


@contextmanager
def mounted(seaweed: SeaweedServer, directories: pytest.TempPathFactory, *options: str) -> Iterator[Mount]:
    """The tiny release, mounted; nothing but the mount is in the mount point's folder."""
    home, kept = directories.mktemp("home"), directories.mktemp("kept")
    factory = Mounts(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBNFS_CACHE_DIR", str(kept / "cache"))
        patch.setenv("VBNFS_LOG_FILE", str(kept / "vbnfs.log"))
        yield factory(seaweed.endpoint_url, *options, name="vbn")
    factory.end()


@pytest.fixture(scope="session")
def mount(
    seaweed: SeaweedServer, tiny_release: DemoRelease, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """The tiny release, mounted once."""
    with mounted(seaweed, tmp_path_factory) as mount:
        yield mount


@pytest.fixture(scope="session")
def originals(tiny_release: DemoRelease) -> dict[str, Path]:
    """The local files that the newest version was made of, by path in the version's folder."""
    newest = tiny_release.files[tiny_release.versions[-1]]
    return {path: file.source for path, file in newest.items()}


@pytest.fixture(scope="session")
def truth(originals: dict[str, Path]) -> Truth:
    """What the original files say."""
    return Truth(originals)
