"""The catalog against the truth: whatever a proxy returns, nothing wrong is stored, and it recovers by itself.

Hypothesis makes up lives of one cache directory: versions are published, with slipped hashes and copies among them,
uploaded again, and loaded by processes that come and go, while a proxy returns its own pages, damaged manifests,
empty lists and wrong sizes, the network comes and goes, and the cache is emptied.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.dataset.build import BUCKET, ORIGIN, PROJECT, document, entry, file_name, version_id_of
from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore, StoredVersion
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.contents import NamedContent, in_order_of_publication
from vbnfs.dataset.release import Release
from vbnfs.dataset.stored_files import read_stored
from vbnfs.errors import DatasetError, StorageError, TransportError
from vbnfs.objects import ListedObject, ListedVersion, ObjectVersion, may_have_size

VERSIONS: Final = ("0.1.0", "0.2.0", "0.10.0", "1.0.0")
CONTENTS: Final = ("", "one", "two", "another")
PATHS: Final = ("a", "b/c", "b/d", "t.csv")
LIES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "page": lambda _: b"<html>log in first</html>",
    "nothing": lambda _: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "another manifest": lambda data: data.replace(b'"project_name"', b'"project_nane"'),
    "a flipped digit": lambda data: bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]),
}

files = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(CONTENTS), min_size=1)


class LyingClient(MemoryClient):
    """A client behind the proxy: `manifest_lie` changes the next `lies_left` manifests, `size_lie` listed sizes."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.manifest_lie: Callable[[bytes], bytes] | None = None
        self.lies_left = 0
        self.size_lie: Callable[[int], int] = lambda size_bytes: size_bytes
        self.lists_nothing = False

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        data = await super().get_object(key, max_bytes=max_bytes)
        if self.manifest_lie is None or not self.lies_left:
            return data
        self.lies_left -= 1
        return self.manifest_lie(data)

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        listed = await super().list_objects(prefix)
        return [] if self.lists_nothing else listed

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        rows = await super().list_versions(prefix)
        sized = [replace(r.attributes, size_bytes=self.size_lie(r.attributes.size_bytes)) for r in rows]
        return [replace(row, attributes=attributes) for row, attributes in zip(rows, sized, strict=True)]

    def tell_the_truth(self) -> None:
        """No more lies, and there is a network."""
        self.heal()
        self.manifest_lie, self.lists_nothing = None, False
        self.size_lie = lambda size_bytes: size_bytes


class CatalogMachine(RuleBasedStateMachine):
    """Rules are events; what was published must be shown, and nothing else is ever stored."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="vbnfs-catalog-"))
        self.store = MemoryStore(BUCKET)
        self.client = LyingClient(self.store)
        self.published: dict[str, list[bytes]] = {}  # by version: all bytes that its manifest ever had
        self.catalog = self.new_catalog()
        self.shown: set[str] = set()  # by the last load that succeeded, in any process
        self.has_loaded = False  # the present process has
        self.is_stored = False  # what was shown

    def teardown(self) -> None:
        try:
            self.client.tell_the_truth()
            self.load()
            release = self.load()  # what was doubtful at the first load is asked for at the next
            assert {str(version) for version in release.versions} == self.published.keys()
            for manifest in release.manifests:
                assert manifest.data == self.published[str(manifest.dataset_version)][-1]
            self.check_sizes(release)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def new_catalog(self) -> Catalog:
        return Catalog(self.client, self.directory / "kept", origin=ORIGIN, project=PROJECT)

    def load(self) -> Release:
        async def load() -> Release:
            return await self.catalog.load()

        release = trio.run(load)
        self.has_loaded = self.is_stored = True
        return release

    @initialize(version=st.sampled_from(VERSIONS), table=files)
    def begin_with_a_version(self, version: str, table: dict[str, str]) -> None:
        self.publish(version, table, None)

    @rule(
        version=st.sampled_from(VERSIONS),
        table=files,
        slip=st.none() | st.tuples(st.sampled_from(PATHS), st.sampled_from(CONTENTS)),
    )
    def publish(self, version: str, table: dict[str, str], slip: tuple[str, str] | None) -> None:
        """A new version, or a version's manifest anew; in one entry the hash may be another content's."""
        manifest = document(table)
        for path, content in table.items():
            self.store.put(f"{PROJECT}/{path}", content.encode(), version_id=version_id_of(content))
            if slip is not None and path == slip[0]:
                for section in ("metadata_files", "data_files"):
                    for one in manifest[section].values():
                        if one["url"].endswith(f"/{path}"):
                            one["file_hash"] = entry(path, slip[1])["file_hash"]
        data = json.dumps(manifest).encode()
        self.store.put(f"{PROJECT}/manifests/{file_name(version)}", data)
        self.published.setdefault(version, []).append(data)

    @rule(version=st.sampled_from(VERSIONS))
    def upload_again(self, version: str) -> None:
        """The same manifest once more, with a new time."""
        if version in self.published:
            data = self.published[version][-1]
            self.store.put(f"{PROJECT}/manifests/{file_name(version)}", data)

    @rule(kind=st.sampled_from(sorted(LIES)), count=st.sampled_from([1, 2, 1000]))
    def lie_about_manifests(self, kind: str, count: int) -> None:
        self.client.manifest_lie, self.client.lies_left = LIES[kind], count

    @rule(lie=st.sampled_from([lambda _: 0, lambda size_bytes: size_bytes + 1, lambda size_bytes: 1]))
    def lie_about_sizes(self, lie: Callable[[int], int]) -> None:
        self.client.size_lie = lie

    @rule()
    def list_nothing(self) -> None:
        self.client.lists_nothing = True

    @rule()
    def lose_the_network(self) -> None:
        self.client.fail_when(lambda request: TransportError("no route to host"))

    @rule()
    def tell_the_truth(self) -> None:
        self.client.tell_the_truth()

    @rule()
    def begin_a_process(self) -> None:
        self.catalog = self.new_catalog()
        self.has_loaded = False
        self.forget_what_is_lost()

    @rule()
    def empty_the_cache(self) -> None:
        """A process that has loaded stores what it knows again at its next load; a new one knows nothing."""
        shutil.rmtree(self.directory / "kept", ignore_errors=True)
        self.is_stored = False
        self.forget_what_is_lost()

    def forget_what_is_lost(self) -> None:
        """What is neither stored nor known to the process need not be shown."""
        if not self.has_loaded and not self.is_stored:
            self.shown = set()

    @rule()
    def empty_the_cache_and_begin_a_process(self) -> None:
        self.begin_a_process()
        self.empty_the_cache()

    @rule()
    def look(self) -> None:
        """What is shown was published; what was shown before, and is not replaced, is still there."""
        try:
            release = self.load()
        except (StorageError, DatasetError):
            assert not self.shown, "what was shown before is kept"
            return
        shown = {str(version) for version in release.versions}
        for manifest in release.manifests:
            assert manifest.data in self.published[str(manifest.dataset_version)]
        assert shown >= self.shown
        self.shown = shown

    @rule()
    def look_from_a_new_process_offline(self) -> None:
        """What was shown last is stored, and shown by a new process without a network."""
        try:
            self.load()  # keeps what is missing
        except (StorageError, DatasetError):
            return
        client = LyingClient(self.store)
        client.fail_when(lambda request: TransportError("no route to host"))
        catalog = Catalog(client, self.directory / "kept", origin=ORIGIN, project=PROJECT)
        release = trio.run(catalog.load)
        assert {str(version) for version in release.versions} >= self.shown

    def check_sizes(self, release: Release) -> None:
        """Once a size has been contradicted, or cannot be, it is that of the object."""

        async def check(content: NamedContent) -> None:
            await self.catalog.sizes.fetch(content)
            await self.catalog.sizes.recheck(content)
            known = self.catalog.sizes.get(content)
            assert known is not None
            sizes = [row.size_bytes for row in map(self.stored, content.sources) if row is not None]
            assert known.size_bytes in sizes
            plausible = [size for size in sizes if may_have_size(content.file_hash, size)]
            assert not plausible or known.size_bytes in plausible

        for content in self.catalog.contents(in_order_of_publication(release.manifests)).by_entry.values():
            trio.run(check, content)

    def stored(self, version: ObjectVersion) -> StoredVersion | None:
        """The object, if the bucket has it."""
        return self.store.get(version.key, version.version_id)

    @invariant()
    def only_manifests_are_kept(self) -> None:
        """Each stored manifest was published."""
        for path in (self.directory / "kept/manifests").glob("*.json"):
            data = read_stored(path)
            assert data is not None
            version = path.name.partition("_v")[2].removesuffix(".json")
            assert data.partition(b"\n")[2] in self.published[version]


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.__doc__ = (
    "Nothing is shown or stored that was not published, and in the end all that was is shown."
)
TestCatalogMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
