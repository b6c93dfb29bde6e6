"""Folders in parts, and folders made ready before they are asked for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dataset.build import BUCKET, ORIGIN, PROJECT, manifest, tree_of
from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from tests.fuse.replies import names_of
from tests.reading.bench import bench
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Tree
from vbnfs.filesystem.attributes import Attributes
from vbnfs.filesystem.listings import Listings

LARGE = 1 << 20
FOLDERS = 20
MANY = 100


@dataclass
class World:
    """A version of 20 folders with a file each, and one with a hundred files."""

    tree: Tree
    attributes: Attributes
    listings: Listings
    catalog: Catalog

    def folder(self, *path: str) -> Directory:
        node = self.tree.nodes[ROOT_INODE]
        for name in path:
            assert isinstance(node, Directory)
            node = self.tree.nodes[node.children[name]]
        assert isinstance(node, Directory)
        return node

    async def learn_sizes(self) -> None:
        await self.catalog.sizes.fetch_all(
            node.content for node in self.tree.nodes.values() if isinstance(node, DataNode)
        )

    def names(self, directory: Directory, size: int) -> list[str]:
        """The whole folder, in parts of `size` bytes."""
        names: list[tuple[str, int]] = []
        while part := self.listings.part(directory, names[-1][1] if names else 0, size):
            assert len(part) <= size
            names += names_of(part)
        return [name for name, _ in names]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = MemoryStore(BUCKET)
    paths = [f"data/{number:02}/file" for number in range(FOLDERS)] + [
        f"wide/many/{number:03}" for number in range(MANY)
    ]
    paths.append("wide/few/file")
    version = manifest("1.0.0", {path: path for path in paths})
    for file in version.files:
        store.put(file.version.key, b"data", version_id=file.version.version_id)
    client = MemoryClient(store)
    async with bench(tmp_path, client=client) as floor:
        catalog = Catalog(client, tmp_path / "kept", origin=ORIGIN, project=PROJECT)
        attributes = Attributes(
            catalog, floor.cache, written=floor.source.writer.written, public_url=str, verified=lambda content: "no"
        )
        tree = tree_of([version], default="1.0.0")
        yield World(tree, attributes, Listings(tree, attributes), catalog)


@pytest.mark.parametrize("size", [300, 5000, LARGE])
async def test_parts(world: World, size: int) -> None:
    """However small the buffer, a folder's names come in order, each once."""
    await world.learn_sizes()
    assert world.names(world.folder("wide", "many"), size) == [".", "..", *(f"{number:03}" for number in range(MANY))]


async def test_many_folders_at_the_same_time(world: World) -> None:
    """Folders that are listed in turns, more of them than are remembered, are listed whole."""
    await world.learn_sizes()
    folders = [world.folder("data", f"{number:02}") for number in range(FOLDERS)]
    for offset, name in enumerate([".", "..", "file"]):
        for folder in folders:
            part = world.listings.part(folder, offset, 300)
            assert names_of(part)[0] == (name, offset + 1)
    assert [world.listings.part(folder, 3, 300) for folder in folders] == [b""] * FOLDERS


async def test_the_next_folder_is_made_ready(world: World) -> None:
    """After a folder of folders, these are made ready in order, each when the one before was taken."""
    await world.learn_sizes()
    world.listings.part(world.folder("data"), 0, LARGE)
    for number in range(FOLDERS):
        folder = world.folder("data", f"{number:02}")
        world.listings.look_ahead()
        world.listings.look_ahead()
        ready = world.listings.ready(folder, LARGE)
        assert ready is not None
        assert names_of(ready) == [(".", 1), ("..", 2), ("file", 3)]
        assert ready == world.listings.part(folder, 0, LARGE)
    world.listings.look_ahead()
    assert world.listings.ready(world.folder("data"), LARGE) is None


async def test_a_walk_that_is_faster(world: World) -> None:
    """Whoever asks before the next folder is ready, or passes some over, finds the one after it ready."""
    await world.learn_sizes()
    world.listings.part(world.folder("data"), 0, LARGE)
    assert world.listings.ready(world.folder("data", "00"), LARGE) is None
    world.listings.look_ahead()
    assert world.listings.ready(world.folder("data", "07"), LARGE) is None
    world.listings.look_ahead()
    assert world.listings.ready(world.folder("data", "08"), LARGE) is not None


async def test_a_walk_that_goes_another_way(world: World) -> None:
    """After a folder that was not to come, nothing is made ready, until another folder of folders is listed."""
    await world.learn_sizes()
    world.listings.part(world.folder("data"), 0, LARGE)
    assert world.listings.ready(world.folder("wide", "few"), LARGE) is None
    for _ in range(2):
        world.listings.look_ahead()
        assert world.listings.ready(world.folder("data", "00"), LARGE) is None
    world.listings.part(world.folder("data"), 0, LARGE)
    world.listings.look_ahead()
    assert world.listings.ready(world.folder("data", "00"), LARGE) is not None


async def test_a_buffer_that_is_too_small(world: World) -> None:
    """What is ready and has no room is listed in parts."""
    await world.learn_sizes()
    world.listings.part(world.folder("data"), 0, LARGE)
    world.listings.look_ahead()
    assert world.listings.ready(world.folder("data", "00"), 300) is None


async def test_what_changed_since_is_not_told(world: World) -> None:
    """When st_blocks of any file, or the tree, has changed, what was made ready before is not used."""
    await world.learn_sizes()
    world.listings.part(world.folder("data"), 0, LARGE)
    world.listings.look_ahead()
    world.attributes.forget()
    assert world.listings.ready(world.folder("data", "00"), LARGE) is None


async def test_only_small_folders_of_known_sizes_are_made_ready(world: World) -> None:
    """A long folder would hold up the next request; one with a file of unknown size cannot be told at once."""
    world.listings.part(world.folder("data"), 0, LARGE)
    assert len(world.listings.unknown(world.folder("data", "00"))) == 1
    world.listings.look_ahead()
    assert world.listings.ready(world.folder("data", "00"), LARGE) is None
    await world.learn_sizes()
    assert world.listings.unknown(world.folder("data", "00")) == []
    world.listings.part(world.folder("wide"), 0, LARGE)
    for name in ("few", "many"):
        world.listings.look_ahead()
        assert (world.listings.ready(world.folder("wide", name), LARGE) is None) == (name == "many")


async def test_a_tree_that_changes_while_it_is_listed(world: World) -> None:
    """A folder in which names turn up, and from which some go, is listed on: those that stay are listed once."""
    await world.learn_sizes()
    versions = [manifest(f"1.{number}.0", {}) for number in range(0, 40, 2)]
    trees = [
        tree_of(some, default=str(versions[0].dataset_version))
        for some in (versions, [*versions[1:], *(manifest(f"1.{number}.0", {}) for number in range(1, 40, 2))])
    ]
    folders = [tree.nodes[tree.nodes[ROOT_INODE].children["manifests"]] for tree in trees]
    listings = Listings(trees[0], world.attributes)
    begun = names_of(listings.part(folders[0], 0, 2000))
    assert 5 < len(begun) < 15
    listings = Listings(trees[1], world.attributes, before=listings)
    names = begun
    while part := listings.part(folders[1], names[-1][1], 2000):
        names += names_of(part)
    listed = [name for name, _ in names]
    assert len(set(listed)) == len(listed)
    assert set(folders[1].children) <= set(listed)
