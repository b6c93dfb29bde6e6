"""The folder `.vbnfs`: its names and inodes, and when its texts are made anew."""

from collections.abc import Callable
from errno import EISDIR, ENOENT, ENOTDIR, EROFS
from os import O_RDONLY, O_RDWR
from typing import Any, cast

import pytest

from tests.dataset.build import manifest, tree_of
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Tree
from vbnfs.filesystem import about as module
from vbnfs.filesystem.about import About
from vbnfs.filesystem.nodes import Nodes
from vbnfs.filesystem.ownership import Ownership
from vbnfs.fuse.operations import Answer, Entry, ErrnoReply, Listing, is_later

FOLDER = "behavior_sessions"
FILES = {"folder/file.nwb": "data", **{f"{FOLDER}/{number:04}.nwb": f"{number}" for number in range(400)}}


class World:
    """The folder of a mount, and how often a text was made."""

    def __init__(self) -> None:
        nodes = Nodes.__new__(Nodes)
        nodes.tree = tree_of([manifest("1.0.0", FILES)], default="1.0.0")
        self.nodes = nodes
        self.made: list[str] = []
        self.about = About(
            nodes,
            Ownership(5, 6, 0o004, 0o005),
            for_all={"status.json": self.text("status")},
            for_owner={"log": self.text("log")},
            provenance=self.of,
        )

    def text(self, name: str) -> Callable[[], bytes]:
        def make() -> bytes:
            self.made.append(name)
            return f"{name} {len(self.made)}".encode()

        return make

    async def of(self, node: Any, path: str) -> bytes:
        assert isinstance(node, DataNode)
        return self.text(path)()

    async def entry(self, *path: str) -> Entry:
        inode, entry = self.about.top.inode, self.about.entry_of_top()
        for name in path:
            entry = cast(Entry, await value(self.about.lookup(inode, name.encode())))
            inode = entry.attr.inode
        return entry

    async def names(self, *path: str) -> list[str]:
        listing: Listing = await value(self.about.list((await self.entry(*path)).attr.inode))
        return [one.name.decode() for one in listing.entries if one is not None]


async def value(answer: Answer[Any]) -> Any:
    return await answer if is_later(answer) else answer


@pytest.fixture
def world() -> World:
    return World()


async def refusal(answer: Callable[[], Answer[Any]]) -> int:
    with pytest.raises(ErrnoReply) as caught:
        await value(answer())
    return caught.value.errno


async def test_names(world: World) -> None:
    """It mirrors the folders of the mount; what is no file of the dataset has no provenance; a listing is kept."""
    assert await world.names() == [".", "..", "status.json", "log", "provenance"]
    assert {"folder", FOLDER, "manifests"} <= set(await world.names("provenance"))
    assert "README.txt.json" not in await world.names("provenance")
    assert await world.names("provenance", "folder") == [".", "..", "file.nwb.json"]
    assert len(await world.names("provenance", FOLDER)) == 402
    inode = (await world.entry("provenance", FOLDER)).attr.inode
    assert world.about.list(inode) is world.about.list(inode)
    assert world.made == []


async def test_what_is_not_there(world: World) -> None:
    """Wrong names, files that are taken for folders, and folders that another tree does not have."""
    top, status = world.about.top.inode, (await world.entry("status.json")).attr.inode
    folder = (await world.entry("provenance", "folder")).attr.inode
    assert await refusal(lambda: world.about.lookup(top, b"other")) == ENOENT
    assert await refusal(lambda: world.about.lookup(folder, b"file.nwb")) == ENOENT
    assert await refusal(lambda: world.about.lookup(status, b"x")) == ENOTDIR
    assert await refusal(lambda: world.about.list(status)) == ENOTDIR
    assert await refusal(lambda: world.about.text(folder, O_RDONLY)) == EISDIR
    assert await refusal(lambda: world.about.text(status, O_RDWR)) == EROFS
    file = (await world.entry("provenance", "folder", "file.nwb.json")).attr.inode
    world.nodes.tree = Tree({ROOT_INODE: world.nodes.tree.nodes[ROOT_INODE]}, world.nodes.tree.default_version)
    assert await refusal(lambda: world.about.lookup(folder, b"file.nwb.json")) == ENOENT
    world.about._made.clear()  # a text that was made before is given for a second
    assert await refusal(lambda: world.about.getattr(file)) == ENOENT


async def test_a_text_is_the_same_for_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """stat and open have one text; after its time another is made; a path always has the same inode."""
    for path in (("status.json",), ("log",), ("provenance", "folder", "file.nwb.json")):
        entry = await world.entry(*path)
        text = await value(world.about.text(entry.attr.inode, O_RDONLY))
        assert (
            len(text) == entry.attr.size_bytes == (await value(world.about.getattr(entry.attr.inode))).attr.size_bytes
        )
        assert (entry.entry_seconds, entry.attr_seconds) == (0.0, 0.0)
        assert (await world.entry(*path)).attr.inode == entry.attr.inode
    assert world.made == ["status", "log", "folder/file.nwb"]
    monkeypatch.setattr(module, "_SAME_SECONDS", 0.0)
    assert await value(world.about.text(entry.attr.inode, O_RDONLY)) == b"folder/file.nwb 4"


async def test_whose_they_are(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files belong to whom the mount's do, with its permissions; the log to the daemon's user alone."""
    monkeypatch.setattr("os.geteuid", lambda: 77)
    modes = {name: (await world.entry(name)).attr for name in ("status.json", "log", "provenance")}
    assert {name: (oct(attr.mode), attr.uid) for name, attr in modes.items()} == {
        "status.json": ("0o100440", 5),
        "log": ("0o100400", 77),
        "provenance": ("0o40550", 5),
    }
    assert {attr.blocks for attr in modes.values()} == {0}


async def test_dots(world: World) -> None:
    """`.` and `..` lead where they should: NFS asks for them."""
    folder = await world.entry("provenance", "folder")
    assert (await value(world.about.lookup(folder.attr.inode, b"."))).attr.inode == folder.attr.inode
    assert (await value(world.about.lookup(folder.attr.inode, b".."))).attr.inode == (
        await world.entry("provenance")
    ).attr.inode
