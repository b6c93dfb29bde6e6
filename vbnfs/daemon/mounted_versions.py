"""Which dataset versions a mount shows: those of the start, and those that appear."""

from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from vbnfs.config.settings import Config
from vbnfs.dataset.browsing import Folders, folders_of, table_of
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.contents import NamedContent, in_order_of_publication
from vbnfs.dataset.manifest import DataFile, DatasetVersion, Manifest
from vbnfs.dataset.names import MANIFESTS
from vbnfs.dataset.readme import readme
from vbnfs.dataset.release import Release
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Node, Tree, changed_attributes
from vbnfs.dataset.tree_builder import build_tree
from vbnfs.startup import frozen_gc

log = structlog.get_logger()

_MOST_CONTRADICTIONS: Final = 5  # in words; of a manifest that is wrong everywhere the rest says nothing new


class MountedVersions:
    """The versions that `catalog` has. At the top stands the configured one, or the newest when the mount begins."""

    def __init__(self, catalog: Catalog, config: Config) -> None:
        self.problems: tuple[str, ...] = ()
        self.contradictions: tuple[str, ...] = ()  # entries that contradict others, in words
        self.doubt: str | None = None  # why there is no list of them, and what is shown instead
        self.is_offline = False  # the last list was not to be had because the bucket could not be reached
        self._catalog = catalog
        self._config = config
        self._manifests: tuple[Manifest, ...] = ()  # by version
        self._published: tuple[Manifest, ...] = ()  # in the order in which they came; what is shown stays first
        self._tree: Tree | None = None
        self._top: DatasetVersion | None = None
        self._browsed: Folders | None = None  # what is below `by`, once it has been looked at
        self._refreshing = trio.Lock()

    @property
    def names(self) -> list[str]:
        """All versions, oldest first."""
        return [manifest.dataset_version.text for manifest in self._manifests]

    @property
    def top(self) -> str:
        """The version at the top."""
        return str(self._top)

    @property
    def newer(self) -> str | None:
        """The newest version, if it is newer than the one at the top."""
        newest = self._manifests[-1].dataset_version
        return str(newest) if newest != self._top else None

    async def load(self, *, max_age_seconds: float) -> Tree:
        """The tree to begin with. Raises a `VbnfsError`."""
        # Manifests and tree are hundreds of thousands of objects. Scans of them by the garbage collector would take a
        # tenth of the time now, and later hold the event loop up for tens of milliseconds each.
        with frozen_gc():
            release = await self._catalog.load(max_age_seconds=max_age_seconds, is_awaited=True)
            self._top = release.choose(self._config.dataset_version)
            self._manifests, self.problems = release.manifests, release.problems
            self._published = tuple(in_order_of_publication(release.manifests))
            self.doubt, self.is_offline = self._doubt_of(release), release.is_offline
            tree, self.contradictions = await trio.to_thread.run_sync(
                self._build_tree, self._manifests, self._published
            )
            self._log_contradictions(self.contradictions)
            self._tree = tree
            return tree

    async def refresh(self, show: Callable[[Tree, Sequence[int]], None]) -> list[str]:
        """`show` what has appeared, if anything, and the inodes that have other attributes by it.

        Returns the names of the versions; being cancelled changes nothing.
        """
        async with self._refreshing:
            release = await self._catalog.load()
            shown = {manifest.dataset_version for manifest in self._manifests}
            new = [manifest for manifest in release.manifests if manifest.dataset_version not in shown]
            if new:
                manifests = tuple(sorted((*self._manifests, *new), key=lambda m: m.dataset_version))
                published = (*self._published, *in_order_of_publication(new))
                tree, found = await trio.to_thread.run_sync(self._build_tree, manifests, published)
                assert self._tree is not None  # loaded before
                show(tree, await trio.to_thread.run_sync(changed_attributes, self._tree, tree))
                # No await between showing it and knowing it.
                self._tree, self._manifests, self._published = tree, manifests, published
                self._log_contradictions([text for text in found if text not in self.contradictions])
                self.contradictions = found
                log.info("dataset versions have appeared", versions=[str(m.dataset_version) for m in new])
                if new[-1] is manifests[-1]:
                    self.log_newer()
            self.problems = release.problems
            self.doubt, self.is_offline = self._doubt_of(release), release.is_offline
            return [str(manifest.dataset_version) for manifest in new]

    @property
    def table(self) -> DataFile | None:
        """The table of sessions of the version at the top, if it has one."""
        return table_of(self._manifest_at_the_top)

    @property
    def _manifest_at_the_top(self) -> Manifest:
        return next(one for one in self._manifests if one.dataset_version == self._top)

    def content_of(self, file: DataFile) -> NamedContent:
        """The content of a file of the version at the top."""
        assert self._tree is not None  # loaded before
        assert self._top is not None
        node: Node = self._tree.nodes[ROOT_INODE]
        for name in (MANIFESTS, self._top.folder, *file.path):
            assert isinstance(node, Directory)
            node = self._tree.nodes[node.children[name]]
        assert isinstance(node, DataNode)
        return node.content

    async def browse(self, table: bytes, show: Callable[[Tree, Sequence[int]], None]) -> None:
        """`show` the folders below `by`, from the bytes of the table of sessions. Raises `ValueError` for others."""
        async with self._refreshing:
            manifest = self._manifest_at_the_top
            self._browsed = await trio.to_thread.run_sync(folders_of, manifest, table)
            tree, _ = await trio.to_thread.run_sync(self._build_tree, self._manifests, self._published)
            assert self._tree is not None  # loaded before
            show(tree, await trio.to_thread.run_sync(changed_attributes, self._tree, tree))
            self._tree = tree

    def _doubt_of(self, release: Release) -> str | None:
        if release.doubt is None or self._config.offline:  # which is no news
            return None
        text = f"{release.doubt}; mounted from {release.basis}"
        if not release.is_offline:
            return text
        mirror = "" if self._config.mirror is None else ", and what the mirror has,"
        return f"{text}; only cached data{mirror} can be read"

    def log_newer(self) -> None:
        """Log that there is a newer version than the one at the top, if there is."""
        if self.newer is not None:
            log.info("newer dataset version than the one at the top", newer=self.newer, top=self.top)

    def _log_contradictions(self, found: Sequence[str]) -> None:
        for text in found:
            log.warning("entries of manifests contradict one another", reason=text)

    def _build_tree(
        self, manifests: Sequence[Manifest], published: Sequence[Manifest]
    ) -> tuple[Tree, tuple[str, ...]]:
        """The tree, and which of its entries contradict one another."""
        assert self._top is not None  # chosen before
        bucket, project = self._config.bucket, self._config.project
        text = readme(manifests, default=self._top, bucket=bucket, project=project)
        contents = self._catalog.contents(published)
        tree = build_tree(manifests, contents=contents, default_version=self._top, readme=text, browsed=self._browsed)
        found = contents.contradictions[:_MOST_CONTRADICTIONS]
        left = len(contents.contradictions) - len(found)
        return tree, (*found, f"and {left} more") if left else found
