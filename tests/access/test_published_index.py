"""Structure indexes of others: asked for at the right time, and used from their copies."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from vbnfs.access.dataset import open_dataset
from vbnfs.access.published_index import PublishedIndexes, unusable_index
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.structure_sets import MOST_BYTES, StructureSet
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config

FOUND = StructureSet("ab" * 64, 10 * BLOCK_BYTES, (0, 4), is_whole=True)
OTHER = StructureSet("cd" * 64, 10 * BLOCK_BYTES, (0, 5), is_whole=True)
KEY = "lab/vbn.index"
PATIENCE_SECONDS = 20.0


@pytest.fixture
def dataset() -> FakeDataset:
    """A dataset, whose bucket has an index under a key of its own, too."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {"a.nwb": b"a"})
    dataset.store.put(KEY, FOUND.encode())
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    """A server of it."""
    with FakeS3Server(dataset.store) as server:
        yield server


def config_of(server: FakeS3Server, tmp_path: Path, **more: str) -> Config:
    settings = {"endpoint_url": server.endpoint_url, "cache_dir": str(tmp_path / "cache"), **more}
    return load_config(command_line=settings, environ={})


def ask(config: Config) -> str | None:
    """Open the dataset, and say from where something is known of the file `FOUND`."""

    async def work() -> str | None:
        async with open_dataset(config) as opened:
            await opened.catalog.load()
            others = PublishedIndexes(config, opened.link, opened.catalog, opened.index)
            others.restore()
            await others.refresh()
            return next((one.origin for one in opened.index.every()), None)

    return trio.run(work)


def test_a_url_is_asked_once_a_day(server: FakeS3Server, tmp_path: Path) -> None:
    """Its copy is used meanwhile, without network, and if it cannot be had any more; another URL's copy is not."""
    url = f"{server.endpoint_url}/{server.store.bucket}/{KEY}"
    asked = lambda: sum(request.key == KEY for request in server.requests)  # noqa: E731
    config = config_of(server, tmp_path, index=url)
    assert (ask(config), ask(config), asked()) == ("given", "given", 1)
    assert ask(config_of(server, tmp_path, index=url, offline="true")) == "given"
    [copy] = tmp_path.rglob("structure-given")
    os.utime(copy, (0, 0))
    assert (ask(config), asked()) == ("given", 2)
    assert ask(config_of(server, tmp_path, index=f"{url}.old")) is None  # there is none: 404
    assert ask(config_of(server, tmp_path)) is None


def test_one_that_is_too_large_is_not_taken(server: FakeS3Server, dataset: FakeDataset, tmp_path: Path) -> None:
    """Neither of a URL, nor of a file, nor of the bucket."""
    large = FOUND.encode() + bytes(MOST_BYTES)
    dataset.store.put(KEY, large)
    dataset.store.put("visual-behavior-neuropixels/manifests.structure-index", large)
    (tmp_path / "large").write_bytes(large)
    for given in (f"{server.endpoint_url}/{server.store.bucket}/{KEY}", str(tmp_path / "large")):
        assert ask(config_of(server, tmp_path, index=given)) is None


def test_a_file_whose_disk_hangs(
    server: FakeS3Server, dataset: FakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket's index is asked for all the same, each time; the file takes one thread, however often it is tried.

    When the disk answers again, the file is used.
    """
    monkeypatch.setattr("vbnfs.access.published_index._PATIENCE_SECONDS", 0.05)
    os.mkfifo(given := tmp_path / "given")  # a pipe that no one writes to hangs as a disk does
    config = config_of(server, tmp_path, index=str(given))
    key = "visual-behavior-neuropixels/manifests.structure-index"

    async def work() -> None:
        async with open_dataset(config) as opened:
            others = PublishedIndexes(config, opened.link, opened.catalog, opened.index)
            for data in (FOUND.encode(), FOUND.encode() + OTHER.encode(), OTHER.encode()):
                dataset.store.put(key, data)
                await opened.catalog.load()
                with trio.fail_after(PATIENCE_SECONDS):
                    await others.refresh()
            assert sum(request.key == key for request in server.requests) == 3
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            given.write_bytes(FOUND.encode())  # the thread ends that waited for it
            given.unlink()
            given.write_bytes(FOUND.encode())
            with trio.fail_after(PATIENCE_SECONDS):
                while not list(tmp_path.rglob("structure-given")):
                    await others.refresh()

    trio.run(work)


def test_what_keeps_a_file_from_being_used(server: FakeS3Server, tmp_path: Path) -> None:
    """That it is not there, or no index, is said where a user mounts; of a URL nothing is."""
    file = tmp_path / "vbn.index"
    config = config_of(server, tmp_path, index=str(file))
    [problem] = unusable_index(config)
    assert problem == f"--index {file}: No such file or directory; files are read without it"
    file.write_bytes(b"{}")
    assert "no structure index" in unusable_index(config)[0]
    file.write_bytes(FOUND.encode())
    assert unusable_index(config) == []
    assert ask(config) == "given"
    assert unusable_index(config_of(server, tmp_path, index="http://a/b")) == []
    assert unusable_index(config_of(server, tmp_path)) == []
