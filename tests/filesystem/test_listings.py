"""Folders in parts, and folders made ready before they are asked for."""

import gc
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
from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Tree
from vbnfs.filesystem.attributes import Attributes
from vbnfs.filesystem.listings import Listings
from vbnfs.fuse.operations import Entry, Listing
from vbnfs.fuse.replies import listing_part, whole_listing

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
        while part := listing_part(self.listings.of(directory).listing, names[-1][1] if names else 0, size):
            assert len(part) <= size
            names += names_of(part)
        return [name for name, _ in names]

    def was_made_ahead(self, directory: Directory) -> bool:
        """Whether the listing that comes next is this folder's, and is given when it is asked for."""
        ahead = self.listings.look_ahead()
        return self.listings.of(directory).listing is ahead


def names_in(listing: Listing) -> list[str | None]:
    """The names by position, None for one that is gone."""
    return [None if entry is None else entry.name.decode() for entry in listing.entries]


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
            catalog, floor.cache, written=floor.source.writer.written, url=str, verified=lambda content: "no"
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
            part = listing_part(world.listings.of(folder).listing, offset, 300)
            assert names_of(part)[0] == (name, offset + 1)
    assert [listing_part(world.listings.of(folder).listing, 3, 300) for folder in folders] == [b""] * FOLDERS


async def test_a_listing_is_made_once(world: World) -> None:
    """While nothing of it has changed, a folder's listing is the same object, so that its packed form can be kept."""
    await world.learn_sizes()
    folder = world.folder("wide", "many")
    listing = world.listings.of(folder).listing
    assert world.listings.of(folder).listing is listing
    world.attributes.change(folder.inode)
    assert world.listings.of(folder).listing is not listing
    assert world.listings.of(folder).listing == listing


async def test_a_size_that_becomes_known(world: World) -> None:
    """A file of unknown size is a name without attributes, which it gets when its size is known."""
    folder = world.folder("data", "00")
    unknown = world.listings.of(folder).listing.entries[-1]
    assert unknown is not None
    assert (unknown.name, unknown.entry) == (b"file", None)
    await world.learn_sizes()
    known = world.listings.of(folder).listing.entries[-1]
    assert known is not None
    assert known.entry is not None
    assert known.entry.attr.size_bytes == 4


async def test_the_size_of_a_file_is_asked_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing a folder asks for the size of each file once, however often the folder is listed then."""
    await world.learn_sizes()
    asked: list[NamedContent] = []
    get = world.catalog.sizes.get
    monkeypatch.setattr(world.catalog.sizes, "get", lambda content: asked.append(content) or get(content))
    folder = world.folder("wide", "many")
    world.names(folder, 300)
    world.attributes.change(folder.inode)
    world.names(folder, 300)
    assert len(asked) == len(set(asked)) == MANY


async def test_a_walk_leaves_nothing_of_folders_in_memory(world: World) -> None:
    """The attributes of files are kept, as a file has several names. Those of folders would only be work for gc."""
    await world.learn_sizes()
    listed = [world.folder("data"), *(world.folder("data", f"{number:02}") for number in range(FOLDERS))]
    for folder in listed:
        world.listings.of(folder)
    kept = {one.attr.inode for one in gc.get_objects() if type(one) is Entry}
    files = {inode for folder in listed[1:] for inode in folder.children.values()}
    assert kept & world.tree.nodes.keys() == files


async def test_the_next_folder_is_made_ready(world: World) -> None:
    """After a folder of folders, their listings are made in order, each when the one before was taken."""
    await world.learn_sizes()
    world.listings.of(world.folder("data"))
    for number in range(FOLDERS):
        folder = world.folder("data", f"{number:02}")
        ready = world.listings.look_ahead()
        assert ready is not None
        assert world.listings.look_ahead() is None
        assert names_in(ready) == [".", "..", "file"]
        assert world.listings.of(folder).listing is ready
    assert world.listings.look_ahead() is None


async def test_a_walk_that_is_faster(world: World) -> None:
    """A program that asks before the next folder is ready, or passes some over, finds the one after it ready."""
    await world.learn_sizes()
    world.listings.of(world.folder("data"))
    world.listings.of(world.folder("data", "00"))
    world.listings.look_ahead()
    world.listings.of(world.folder("data", "07"))
    assert world.was_made_ahead(world.folder("data", "08"))


async def test_a_walk_that_goes_another_way(world: World) -> None:
    """After a folder that was not to come, nothing is made ready, until another folder of folders is listed."""
    await world.learn_sizes()
    world.listings.of(world.folder("data"))
    world.listings.of(world.folder("wide", "few"))
    for _ in range(2):
        assert world.listings.look_ahead() is None
        world.listings.of(world.folder("data", "00"))
    world.listings.of(world.folder("data"))
    assert world.was_made_ahead(world.folder("data", "00"))


async def test_a_buffer_that_is_too_small(world: World) -> None:
    """What is ready and has no room is listed in parts."""
    await world.learn_sizes()
    world.listings.of(world.folder("data"))
    ready = world.listings.look_ahead()
    assert ready is not None
    ready.pack(whole_listing)
    assert world.names(world.folder("data", "00"), 300) == [".", "..", "file"]


async def test_what_changed_since_is_not_used(world: World) -> None:
    """When st_blocks of any file, or the tree, has changed, what was made ready before is not used."""
    await world.learn_sizes()
    world.listings.of(world.folder("data"))
    ready = world.listings.look_ahead()
    world.attributes.forget()
    assert world.listings.of(world.folder("data", "00")).listing is not ready


async def test_only_small_folders_of_known_sizes_are_made_ready(world: World) -> None:
    """A long folder would hold up the next request; one with a file of unknown size has no attributes for it yet."""
    world.listings.of(world.folder("data"))
    assert len(world.listings.of(world.folder("data", "00")).unknown) == 1
    assert world.listings.look_ahead() is None
    world.listings.of(world.folder("data", "00"))
    await world.learn_sizes()
    assert world.listings.of(world.folder("data", "00")).unknown == []
    world.listings.of(world.folder("wide"))
    for name in ("few", "many"):
        assert (world.listings.look_ahead() is None) == (name == "many")
        world.listings.of(world.folder("wide", name))


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
    begun = names_of(listing_part(listings.of(folders[0]).listing, 0, 2000))
    assert 5 < len(begun) < 15
    listings = Listings(trees[1], world.attributes, before=listings)
    names = begun
    while part := listing_part(listings.of(folders[1]).listing, names[-1][1], 2000):
        names += names_of(part)
    listed = [name for name, _ in names]
    assert len(set(listed)) == len(listed)
    assert set(folders[1].children) <= set(listed)
