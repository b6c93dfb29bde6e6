"""Which versions there are: what is asked for, what is kept, and what is refused."""

import gc
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
import structlog
import trio
import trio.testing
from structlog.typing import EventDict

from tests.dataset import real_list
from tests.dataset.build import (
    BUCKET,
    ORIGIN,
    PROJECT,
    Files,
    document,
    file_name,
    hash_of,
    manifest_json,
    named,
    version_id_of,
)
from tests.fakes.client import Failure, MemoryClient, Request
from tests.fakes.store import MemoryStore, Pattern
from vbnfs.dataset.catalog import Catalog, Release
from vbnfs.dataset.kept_files import read_kept, write_kept
from vbnfs.dataset.manifest import MAX_MANIFEST_BYTES, DatasetVersion, Manifest, Origin
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    DatasetError,
    ObjectGoneError,
    StorageError,
    TransportError,
)
from vbnfs.objects import ListedObject, ListedVersion, ObjectAttributes, ObjectVersion

FILES = {"a.csv": "a", "s/1.nwb": "one", "s/2.nwb": "two"}
NO_NETWORK = TransportError("no route to host")
NOT_ALLOWED = AccessDeniedError("listing: HTTP 403")


class Bucket:
    """A bucket with releases in it, and a client that counts what is asked for."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore(BUCKET)
        self.client = MemoryClient(self.store)
        self.directory = directory
        self.origin = ORIGIN

    def publish(self, version: str, files: Files, *, sizes: dict[str, int] | None = None) -> None:
        """A manifest, and those of its objects that are not there yet (of a content's length, or `sizes`)."""
        for path, content in files.items():
            key = f"{PROJECT}/{path}"
            if self.store.get(key, version_id_of(content)) is None:
                length = (sizes or {}).get(path, len(content))
                self.store.put(key, b"x" * length, version_id=version_id_of(content))
        self.publish_bytes(version, manifest_json(files))

    def publish_bytes(self, version: str, data: bytes) -> None:
        self.store.put(manifest_key(version), data)

    def catalog(self) -> Catalog:
        """A catalog as a new process has it: what it knows is what is kept."""
        return Catalog(self.client, self.directory, origin=self.origin, project=PROJECT)

    async def load(self) -> Release:
        return await self.catalog().load()

    def asked(self) -> tuple[int, int, int, int]:
        """Requests since it was asked last: listings of objects, manifests, listings of versions, HEADs."""
        client = self.client
        counts = tuple(client.count(kind) for kind in ("list_objects", "get_object", "list_versions", "head"))
        client.requests.clear()
        objects, manifests, versions, heads = counts
        return objects, manifests, versions, heads

    def lie_in_listings(self, version: ObjectVersion, *, size_bytes: int) -> None:
        """Listings of versions give an object this size; the object stays as it is."""
        list_versions = self.client.list_versions

        async def lists_wrongly(prefix: str) -> list[ListedVersion]:
            rows = await list_versions(prefix)
            lie = [replace(row, attributes=replace(row.attributes, size_bytes=size_bytes)) for row in rows]
            return [wrong if row.version == version else row for row, wrong in zip(rows, lie, strict=True)]

        self.client.list_versions = lists_wrongly  # type: ignore[method-assign]

    def go_offline(self) -> None:
        self.client.fail_when(lambda request: NO_NETWORK)

    def refuse_to_list_versions(self) -> None:
        self.client.fail_when(lambda request: NOT_ALLOWED if request.kind == "list_versions" else None)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "kept")


def manifest_key(version: str) -> str:
    return f"{PROJECT}/manifests/{file_name(version)}"


def object_version(path: str, content: str) -> ObjectVersion:
    return ObjectVersion(f"{PROJECT}/{path}", version_id_of(content))


def names(release: Release) -> list[str]:
    return [str(version) for version in release.versions]


def warnings(logs: Iterable[EventDict]) -> list[str]:
    return [entry["event"] for entry in logs if entry["log_level"] == "warning"]


def is_head(request: Request) -> bool:
    return request.kind == "head"


ONE, TWO = object_version("s/1.nwb", "one"), object_version("s/2.nwb", "two")


# What is asked for


async def test_first_load(bucket: Bucket) -> None:
    """The first time: one listing, each manifest once, one listing of versions; no HEAD."""
    bucket.publish("0.9.0", FILES)
    bucket.publish("0.10.0", FILES | {"s/2.nwb": "changed"})
    release = await bucket.load()
    assert names(release) == ["0.9.0", "0.10.0"]
    assert (release.problems, release.is_offline) == ((), False)
    assert bucket.asked() == (1, 2, 1, 0)


async def test_manifests_are_asked_for_at_once(bucket: Bucket) -> None:
    """The first time costs one round trip for all manifests; the order in which they come changes nothing."""
    for version in ("0.1.0", "0.2.0", "0.3.0"):
        bucket.publish(version, FILES)
    bucket.publish_bytes("0.0.1", b"<html>")
    bucket.publish_bytes("0.4.0", b"[]")
    gate = bucket.client.hold(lambda request: request.kind == "get_object")
    releases: list[Release] = []

    async def load() -> None:
        releases.append(await bucket.load())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load)
        await gate.wait_arrived(5)
        gate.open()
    assert names(releases[0]) == ["0.1.0", "0.2.0", "0.3.0"]
    assert [problem.partition(":")[0] for problem in releases[0].problems] == [file_name("0.0.1"), file_name("0.4.0")]


async def test_the_first_time_both_listings_are_asked_for_at_once(bucket: Bucket) -> None:
    """Sizes cost no round trip of their own."""
    bucket.publish("0.1.0", FILES)
    gate = bucket.client.hold(lambda request: request.kind in {"list_objects", "list_versions"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bucket.load)
        await gate.wait_arrived(2)
        gate.open()


async def test_where_there_is_no_manifest_nobody_waits_for_sizes(bucket: Bucket) -> None:
    """A wrong --project is told at once, though a listing of versions is still under way; and nothing else is."""
    gate = bucket.client.hold(lambda request: request.kind == "list_versions")
    with structlog.testing.capture_logs() as logs, trio.fail_after(5), pytest.raises(DatasetError, match="--project"):
        await bucket.load()
    assert warnings(logs) == []
    gate.open()


async def test_a_fresh_list_is_not_asked_for_again(bucket: Bucket) -> None:
    """A list of manifests that is young enough costs no request in the next process; an old one is asked for."""
    bucket.publish("0.1.0", FILES)
    await bucket.load()
    bucket.asked()
    release = await bucket.catalog().load(max_age_seconds=300)
    assert (names(release), release.is_offline) == (["0.1.0"], False)
    assert bucket.asked() == (0, 0, 0, 0)
    index = bucket.directory / "index"
    for age_seconds in (301, -10):  # too old; from the future, so that its age is not known
        os.utime(index, (0, time.time() - age_seconds))
        await bucket.catalog().load(max_age_seconds=300)
        assert bucket.asked() == (1, 0, 0, 0)


async def test_offline_with_a_fresh_list(bucket: Bucket) -> None:
    """Without network a young list serves, too, and being offline is told."""
    bucket.publish("0.1.0", FILES)
    await bucket.load()
    bucket.go_offline()
    release = await bucket.catalog().load(max_age_seconds=300)
    assert (names(release), release.is_offline) == (["0.1.0"], True)


async def test_sizes_and_times_are_those_of_the_version(bucket: Bucket) -> None:
    """Each object version has its own size and S3's time, also where a newer version of the object exists."""
    bucket.publish("0.1.0", {"a": "short"})
    bucket.publish("0.2.0", {"a": "a longer content"})
    catalog = bucket.catalog()
    await catalog.load()
    for content in ("short", "a longer content"):
        row = bucket.store.get(f"{PROJECT}/a", version_id_of(content))
        assert row is not None
        told = ObjectAttributes(len(content), int(row.modified.timestamp()) * 10**9, row.etag.strip('"'))
        assert catalog.attributes(object_version("a", content)) == told
        assert await catalog.attributes_of(object_version("a", content)) == told
    assert bucket.asked() == (1, 2, 1, 0)


async def test_second_load_asks_for_the_list_only(bucket: Bucket) -> None:
    """When nothing has changed, a refresh is one request, and gives the very same manifests."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    first = await catalog.load()
    bucket.asked()
    second = await catalog.load()
    assert bucket.asked() == (1, 0, 0, 0)
    assert second.manifests[0] is first.manifests[0]


async def test_a_new_process_asks_for_the_list_only(bucket: Bucket) -> None:
    """What was learnt is kept: a remount is one request."""
    bucket.publish("0.1.0", FILES)
    before = await bucket.load()
    bucket.asked()
    catalog = bucket.catalog()
    assert await catalog.load() == before
    assert catalog.attributes(ONE) == ObjectAttributes(3, 1_672_531_202 * 10**9, hashlib.md5(b"xxx").hexdigest())
    assert bucket.asked() == (1, 0, 0, 0)


async def test_refresh_finds_a_new_version(bucket: Bucket) -> None:
    """A version that appears costs one listing, its manifest, and one listing of versions."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    bucket.publish("0.2.0", FILES | {"new": "new"})
    bucket.asked()
    assert names(await catalog.load()) == ["0.1.0", "0.2.0"]
    assert bucket.asked() == (1, 1, 1, 0)
    assert catalog.attributes(object_version("new", "new")) is not None


async def test_a_new_version_of_known_objects_lists_nothing(bucket: Bucket) -> None:
    """A version that only leaves files out costs its manifest and nothing else."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    bucket.publish("0.2.0", {"a.csv": "a"})
    bucket.asked()
    await catalog.load()
    assert bucket.asked() == (1, 1, 0, 0)


async def test_what_another_process_learnt_is_not_asked_for(bucket: Bucket) -> None:
    """At a refresh, a catalog finds in the common directory what another one fetched since."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    bucket.publish("0.2.0", FILES | {"new": "new"})
    await bucket.load()
    bucket.asked()
    assert names(await catalog.load()) == ["0.1.0", "0.2.0"]
    assert bucket.asked() == (1, 0, 0, 0)
    assert catalog.attributes(object_version("new", "new")) is not None


async def test_an_object_that_is_gone_is_not_listed_for_again(bucket: Bucket) -> None:
    """A file whose object does not exist stays without a size, and costs no listing at each refresh."""
    bucket.publish("0.1.0", FILES)
    bucket.store.remove(ONE.key, str(ONE.version_id))
    catalog = bucket.catalog()
    await catalog.load()
    bucket.asked()
    assert names(await catalog.load()) == ["0.1.0"]
    assert bucket.asked() == (1, 0, 0, 0)
    assert catalog.attributes(ONE) is None
    assert catalog.attributes(TWO) is not None
    with pytest.raises(ObjectGoneError):
        await catalog.attributes_of(ONE)


async def test_other_objects_beside_the_manifests(bucket: Bucket) -> None:
    """What is not named like a manifest, or stands in a folder below them, is left alone."""
    bucket.publish("0.1.0", FILES)
    for name in (
        "README.txt",
        "old/x_manifest_v9.0.0.json",
        "x_manifest_v9.json.bak",
        "x\u202e_manifest_v9.0.0.json",
        "",
    ):
        bucket.store.put(f"{PROJECT}/manifests/{name}", b"{}")
    release = await bucket.load()
    assert names(release) == ["0.1.0"]
    assert release.problems == ()


async def test_no_manifest_at_all(bucket: Bucket) -> None:
    """A bucket without manifests is refused in words that name what may be wrong."""
    bucket.store.put(f"{PROJECT}/manifests/README.txt", b"")
    with pytest.raises(DatasetError, match="'data-bucket' below 'project/manifests/': check --bucket and --project"):
        await bucket.load()


def calls_on_this_thread(counts: list[int]) -> Any:
    def profile(frame: FrameType, event: str, arg: object) -> None:
        counts[0] += event == "call"

    return profile


async def test_the_event_loop_is_not_kept_busy(tmp_path: Path) -> None:
    """Loading five releases of the real size makes few calls on the event loop's thread: threads do the work."""
    store, origin = MemoryStore(real_list.BUCKET), Origin(real_list.BUCKET)
    rows: dict[ObjectVersion, None] = {}
    for version in real_list.RELEASES:
        store.put(
            f"{real_list.PROJECT}/manifests/{real_list.real_file_name(version)}",
            real_list.real_manifest_json(version),
        )
        table = json.loads(real_list.real_manifest_json(version))
        entries = [*table["metadata_files"].values(), *table["data_files"].values()]
        rows.update({ObjectVersion(e["url"].split("/", 3)[3], e["version_id"]): None for e in entries})
    for row in rows:
        store.put(row.key, Pattern(1), version_id=row.version_id)
    client = MemoryClient(store)
    listed = await client.list_versions("")  # the fake's own work is not what is counted here
    counts = [0]

    class Listed(MemoryClient):
        async def list_versions(self, prefix: str) -> Any:
            return listed

    catalog = Catalog(Listed(store), tmp_path, origin=origin, project=real_list.PROJECT)
    for _ in range(2):
        before = sys.getprofile()
        sys.setprofile(calls_on_this_thread(counts))
        try:
            await catalog.load()
        finally:
            sys.setprofile(before)
    assert all(catalog.attributes(row) is not None for row in rows)
    assert 0 < counts[0] < len(rows)  # less than one for each object


# Without network


async def test_offline_with_everything_kept(bucket: Bucket) -> None:
    """Without network a catalog works from what is kept, sizes included, and says so."""
    bucket.publish("0.1.0", FILES)
    online = await bucket.load()
    bucket.go_offline()
    catalog = bucket.catalog()
    offline = await catalog.load()
    assert offline.is_offline
    assert offline.manifests == online.manifests
    assert catalog.attributes(ONE) is not None
    assert bucket.asked()[1:] == (1, 1, 0)  # those of the first load


async def test_offline_with_nothing_kept(bucket: Bucket) -> None:
    """Without network and without anything kept, the reason is what the client said."""
    bucket.publish("0.1.0", FILES)
    bucket.go_offline()
    with pytest.raises(TransportError, match="no route to host"):
        await bucket.load()


async def test_offline_with_a_manifest_missing(bucket: Bucket) -> None:
    """A version whose manifest is not kept cannot be shown offline; the others can."""
    bucket.publish("0.1.0", FILES)
    bucket.publish("0.2.0", FILES)
    await bucket.load()
    (bucket.directory / "manifests" / file_name("0.1.0")).unlink()
    bucket.go_offline()
    release = await bucket.load()
    assert names(release) == ["0.2.0"]
    [problem] = release.problems
    assert file_name("0.1.0") in problem
    assert "not kept here" in problem


async def test_offline_nobody_asks_for_sizes(bucket: Bucket) -> None:
    """Where sizes are not kept and there is no network, the dataset is shown, and no listing is waited for."""
    bucket.publish("0.1.0", FILES)
    await bucket.load()
    (bucket.directory / "attributes").unlink()
    bucket.go_offline()
    bucket.asked()
    catalog = bucket.catalog()
    assert names(await catalog.load()) == ["0.1.0"]
    assert catalog.attributes(ONE) is None
    assert bucket.asked() == (0, 0, 0, 0)


async def test_back_online(bucket: Bucket) -> None:
    """When the network is back, the next load is an ordinary one."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    bucket.go_offline()
    assert (await catalog.load()).is_offline
    bucket.client.heal()
    bucket.publish("0.2.0", FILES)
    release = await catalog.load()
    assert not release.is_offline
    assert names(release) == ["0.1.0", "0.2.0"]


async def test_being_offline_is_told_once_each_time(bucket: Bucket) -> None:
    """That the bucket cannot be reached is a warning when it begins, not at each refresh, and again the next time."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    for _ in range(2):
        with structlog.testing.capture_logs() as logs:
            bucket.go_offline()
            for _ in range(3):
                await catalog.load()
            bucket.client.heal()
            await catalog.load()
        assert warnings(logs) == ["bucket cannot be reached; going on with what is kept"]
        assert logs[0]["reason"] == "no route to host"


async def test_a_manifest_that_cannot_be_fetched_now(bucket: Bucket) -> None:
    """A failure with one manifest leaves the others, and the next load asks for it again."""
    bucket.publish("0.1.0", FILES)
    bucket.publish("0.2.0", FILES)
    bucket.client.fail_when(lambda request: NO_NETWORK if request.name == manifest_key("0.1.0") else None)
    catalog = bucket.catalog()
    release = await catalog.load()
    assert names(release) == ["0.2.0"]
    assert release.problems == ("no route to host",)
    bucket.asked()
    bucket.client.heal()
    assert names(await catalog.load()) == ["0.1.0", "0.2.0"]
    assert bucket.asked() == (1, 1, 0, 0)


async def test_a_cancelled_load_leaves_nothing_behind(bucket: Bucket) -> None:
    """A load that was cancelled at any of its requests is followed by one that gives everything."""
    bucket.publish("0.1.0", FILES)
    for kind in ("list_objects", "get_object", "list_versions"):
        bucket.directory = bucket.directory.with_name(kind)
        catalog = bucket.catalog()
        gate = bucket.client.hold(lambda request, kind=kind: request.kind == kind)  # type: ignore[misc]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.load)
            await gate.wait_arrived()
            nursery.cancel_scope.cancel()
        gate.open()
        assert names(await catalog.load()) == ["0.1.0"]
        assert catalog.attributes(ONE) is not None


# What is kept


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        data[:middle] if how == "cut short" else data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    )


@pytest.mark.parametrize("how", ["cut short", "bit flipped"])
@pytest.mark.parametrize(
    ("name", "cost"),
    [(f"manifests/{file_name('0.1.0')}", (1, 1, 0, 0)), ("attributes", (1, 0, 1, 0)), ("index", (1, 0, 0, 0))],
)
async def test_a_damaged_file_is_fetched_again(
    bucket: Bucket, name: str, how: str, cost: tuple[int, int, int, int]
) -> None:
    """Whichever kept file is damaged: its content is asked for again, once, and then it is whole."""
    bucket.publish("0.1.0", FILES)
    before = await bucket.load()
    good = (bucket.directory / name).read_bytes()
    damage(bucket.directory / name, how)
    bucket.asked()
    assert await bucket.load() == before
    assert bucket.asked() == cost
    if name != "attributes":  # its rows have no order
        assert (bucket.directory / name).read_bytes() == good
    await bucket.load()
    assert bucket.asked() == (1, 0, 0, 0)


async def test_a_manifest_that_was_replaced(bucket: Bucket) -> None:
    """A manifest that has changed in the bucket is fetched again, by a running catalog and by a new one."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    bucket.publish("0.1.0", {"other": "other"})
    bucket.asked()
    release = await catalog.load()
    assert bucket.asked() == (1, 1, 1, 0)
    assert [file.path for file in release.manifests[0].files] == [("other",)]
    assert await bucket.load() == release
    assert bucket.asked() == (1, 0, 0, 0)


async def test_a_manifest_uploaded_again_has_the_new_time(bucket: Bucket) -> None:
    """The same bytes at another time: every catalog shows the new time, a running one and a new one."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    first = await catalog.load()
    bucket.publish("0.1.0", FILES)
    second = await catalog.load()
    assert second.manifests[0].modified_ns > first.manifests[0].modified_ns
    assert await bucket.load() == second


Change = Callable[[bytes], bytes]


def tamper(bucket: Bucket, version: str, *changes: Change) -> None:
    """A version's manifest comes changed: the first time, the next when it is asked for again."""
    left, get_object = list(changes), bucket.client.get_object

    async def tampered(key: str, *, max_bytes: int) -> bytes:
        data = await get_object(key, max_bytes=max_bytes)
        return left.pop(0)(data) if left and key == manifest_key(version) else data

    bucket.client.get_object = tampered  # type: ignore[method-assign]


def flipped(data: bytes) -> bytes:
    """JSON still, of the same length: a file has another hash."""
    digest = hash_of("one").encode()
    return data.replace(digest, digest[:-1] + (b"0" if digest[-1:] != b"0" else b"1"))


def proxy_page(data: bytes) -> bytes:
    return b"<html>please log in".ljust(len(data))


ELSEWHERE: Final = Origin(BUCKET, "https://lab.example")  # where nobody knows what an ETag is
NO_MD5: Final = f'"{"0123456789abcdef" * 2}"'


def kept_manifests(bucket: Bucket) -> list[str]:
    return sorted(path.name for path in (bucket.directory / "manifests").glob("*.json"))


async def test_a_manifest_damaged_on_its_way(bucket: Bucket) -> None:
    """A manifest whose bytes are not what its ETag tells is fetched once more; what is right is kept."""
    bucket.publish("1.0.0", FILES)
    tamper(bucket, "1.0.0", lambda data: data + b" ")
    release = await bucket.load()
    assert [manifest.data for manifest in release.manifests] == [manifest_json(FILES)]
    assert bucket.asked()[1] == 2
    assert [manifest.data for manifest in (await bucket.load()).manifests] == [manifest_json(FILES)]
    assert bucket.asked()[1] == 0


@pytest.mark.parametrize("change", [flipped, proxy_page, lambda data: data[:-1], lambda data: data + b" "])
@pytest.mark.parametrize("is_refresh", [True, False])
async def test_a_wrong_body_is_not_kept(bucket: Bucket, change: Change, *, is_refresh: bool) -> None:
    """What comes wrong, and the same each time, is refused and not kept; the next load asks again."""
    bucket.publish("1.0.0", FILES)
    bucket.publish("2.0.0", FILES | {"b.csv": "b"})
    tamper(bucket, "1.0.0", change, change)
    catalog = bucket.catalog()
    release = await catalog.load()
    assert names(release) == ["2.0.0"]
    assert "v1.0.0" in release.problems[0]
    assert "asked for again" in release.problems[0]
    assert kept_manifests(bucket) == [file_name("2.0.0")]
    release = await (catalog.load() if is_refresh else bucket.load())
    assert names(release) == ["1.0.0", "2.0.0"]
    assert release.manifests[0].data == manifest_json(FILES)


async def test_if_all_bodies_are_wrong_the_next_mount_is_well(bucket: Bucket) -> None:
    """A proxy that answers everything with its own page leaves nothing behind."""
    bucket.publish("1.0.0", FILES)
    tamper(bucket, "1.0.0", proxy_page, proxy_page)
    assert names(await bucket.load()) == []
    bucket.asked()
    assert names(await bucket.load()) == ["1.0.0"]
    assert bucket.asked()[1] == 1


@pytest.mark.parametrize("origin", [ORIGIN, ELSEWHERE])
async def test_where_etags_are_md5s_no_other_bytes_are_believed(bucket: Bucket, origin: Origin) -> None:
    """At AWS, and where one manifest's ETag is its MD5, another that comes twice without it is refused."""
    bucket.origin = origin
    bucket.publish("1.0.0", FILES)
    if origin is ELSEWHERE:
        bucket.publish("2.0.0", FILES)
    tamper(bucket, "1.0.0", flipped, flipped)
    assert "1.0.0" not in names(await bucket.load())


async def test_what_is_kept_and_proves_wrong_is_asked_for_again(bucket: Bucket) -> None:
    """A kept manifest that is none, or not of its ETag, is fetched and kept again by itself."""
    bucket.publish("1.0.0", FILES)
    await bucket.load()
    path = bucket.directory / "manifests" / file_name("1.0.0")
    good = read_kept(path)
    assert good is not None
    head, _, data = good.partition(b"\n")
    for change in (flipped, proxy_page):
        write_kept(path, head + b"\n" + change(data))
        bucket.asked()
        assert (await bucket.load()).manifests[0].data == data
        assert bucket.asked()[1] == 1
        assert read_kept(path) == good


async def test_a_manifest_that_comes_differently_each_time(bucket: Bucket) -> None:
    """Where ETags prove nothing, what comes twice and not the same is refused by its name and not kept."""
    bucket.origin = ELSEWHERE
    bucket.publish("1.0.0", FILES)
    tamper(bucket, "1.0.0", flipped, lambda data: data.replace(b"url", b"uri"))
    release = await bucket.load()
    assert names(release) == []
    assert "its ETag" in release.problems[0]
    assert kept_manifests(bucket) == []
    assert names(await bucket.load()) == ["1.0.0"]


async def test_etags_that_prove_nothing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be proven is shown and serves offline, but is asked for once more at the next load."""
    bucket.origin = ELSEWHERE
    for number, (etag, first_cost) in enumerate(((NO_MD5, 2), (f'{NO_MD5[:-1]}-7"', 1), ("", 1))):
        bucket.directory = bucket.directory.with_name(str(number))
        monkeypatch.setattr("tests.fakes.store.StoredVersion.etag", etag)
        bucket.publish("1.0.0", FILES)
        bucket.asked()
        for cost in (first_cost, 1, 0):
            assert names(await bucket.load()) == ["1.0.0"]
            assert bucket.asked()[1] == cost
            bucket.go_offline()
            assert names(await bucket.load()) == ["1.0.0"]
            bucket.client.heal()
            bucket.asked()


async def test_a_claim_is_given_up_for_what_comes_next(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flip that nothing could tell is not believed for good: the next load shows what comes then."""
    bucket.origin = ELSEWHERE
    bucket.publish("1.0.0", FILES)
    monkeypatch.setattr("tests.fakes.store.StoredVersion.etag", NO_MD5)
    tamper(bucket, "1.0.0", flipped, flipped)
    catalog = bucket.catalog()
    assert (await catalog.load()).manifests[0].data == flipped(manifest_json(FILES))
    for _ in range(2):
        assert (await catalog.load()).manifests[0].data == manifest_json(FILES)


async def test_a_manifest_uploaded_again_unchanged_is_not_fetched(bucket: Bucket) -> None:
    """The same bytes at another time cost no GET where the ETag proves them, and serve offline."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    bucket.publish("0.1.0", FILES)
    bucket.asked()
    for one in (catalog, bucket.catalog()):
        assert names(await one.load()) == ["0.1.0"]
        assert bucket.asked()[1] == 0
    online = await bucket.load()
    bucket.go_offline()
    assert (await bucket.load()).manifests == online.manifests


@pytest.mark.parametrize("change", [flipped, proxy_page, None])
async def test_a_manifest_that_was_replaced_and_cannot_be_had(bucket: Bucket, change: Change | None) -> None:
    """While the new manifest of a version does not come, or comes wrong, the kept one is shown; offline, too."""
    bucket.publish("0.1.0", FILES)
    before = await bucket.load()
    bucket.publish("0.1.0", FILES | {"new": "new"})
    if change is None:
        bucket.client.fail_when(lambda request: NO_NETWORK if request.kind == "get_object" else None)
    else:
        tamper(bucket, "0.1.0", *[change] * 4)
    with structlog.testing.capture_logs() as logs:
        catalog = bucket.catalog()
        for _ in range(2):
            release = await catalog.load()
            assert (release.manifests, release.problems) == (before.manifests, ())
    assert warnings(logs) == ["manifest cannot be had; the kept one is shown"]
    bucket.go_offline()
    assert (await bucket.load()).manifests == before.manifests
    bucket.client.heal()
    assert len((await catalog.load()).manifests[0].files) == len(FILES) + 1


async def test_a_server_that_gives_no_etags(bucket: Bucket) -> None:
    """Without ETags, size and time tell that a manifest has changed."""

    class WithoutEtags(MemoryClient):
        async def list_objects(self, prefix: str) -> list[ListedObject]:
            return [
                ListedObject(row.key, replace(row.attributes, etag="")) for row in await super().list_objects(prefix)
            ]

    bucket.client = WithoutEtags(bucket.store)
    bucket.publish("0.1.0", {"a": "1"})
    await bucket.load()
    bucket.publish("0.1.0", {"b": "1"})
    for _ in range(2):
        release = await bucket.load()
        assert [file.path for file in release.manifests[0].files] == [("b",)]
    bucket.asked()
    await bucket.load()
    assert bucket.asked() == (1, 0, 0, 0)


# A list that cannot be believed


def lists(bucket: Bucket, what: Callable[[list[ListedObject]], list[ListedObject]]) -> None:
    """From now on the listing of manifests is what `what` makes of it."""
    list_objects = bucket.client.list_objects

    async def changed(prefix: str) -> list[ListedObject]:
        return what(await list_objects(prefix))

    bucket.client.list_objects = changed  # type: ignore[method-assign]


OTHER_XML: Final = BadReplyError("listing: not an S3 listing: <html>")


@pytest.mark.parametrize("how", ["empty", "other objects", "too many", "another kind of XML"])
async def test_a_list_without_manifests_changes_nothing(bucket: Bucket, how: str) -> None:
    """A listing that lost all manifests at once is no reason to show none: one warning, and what is kept goes on."""
    bucket.publish("0.1.0", FILES)
    before = await bucket.load()
    index = (bucket.directory / "index").read_bytes()
    other = ListedObject(f"{PROJECT}/manifests/README.txt", ObjectAttributes(1, 1))
    many = [ListedObject(manifest_key(f"0.{n}.0"), ObjectAttributes(1, 1)) for n in range(1001)]
    if how == "another kind of XML":
        bucket.client.fail_when(lambda request: OTHER_XML if request.kind == "list_objects" else None)
    else:
        lists(bucket, lambda _: {"empty": [], "other objects": [other], "too many": many}[how])
    with structlog.testing.capture_logs() as logs:
        catalog = bucket.catalog()
        for _ in range(2):
            release = await catalog.load()
            assert release.manifests == before.manifests
            assert release.doubt is not None
            assert not release.is_offline
    assert warnings(logs) == ["manifests cannot be listed; going on with what is kept"]
    assert (bucket.directory / "index").read_bytes() == index


async def test_an_empty_list_of_object_versions_is_none(bucket: Bucket) -> None:
    """Sizes are asked for one by one then, and the next load lists again."""
    bucket.publish("0.1.0", FILES)
    list_versions = bucket.client.list_versions
    rows: list[ListedVersion] = []

    async def nothing(prefix: str) -> list[ListedVersion]:
        await list_versions(prefix)
        return rows

    bucket.client.list_versions = nothing  # type: ignore[method-assign]
    catalog = bucket.catalog()
    with structlog.testing.capture_logs() as logs:
        await catalog.load()
    assert warnings(logs) == ["object versions cannot be listed; sizes are asked for one by one"]
    rows += await list_versions(PROJECT)
    await catalog.load()
    assert catalog.attributes(ONE) is not None


async def test_the_index_is_kept_last(bucket: Bucket) -> None:
    """A load that ends while it asks for manifests has kept no list of them."""
    bucket.publish("0.1.0", FILES)
    gate = bucket.client.hold(lambda request: request.kind == "get_object")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bucket.load)
        await gate.wait_arrived()
        nursery.cancel_scope.cancel()
    assert not (bucket.directory / "index").exists()


async def test_manifests_that_are_too_large_together(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more manifests than memory is meant for, the oldest are shown."""
    monkeypatch.setattr("vbnfs.dataset.copies._MAX_ALL_BYTES", 3 * len(manifest_json(FILES)))
    for number in range(5):
        bucket.publish(f"0.{number}.0", FILES)
    release = await bucket.load()
    assert names(release) == ["0.0.0", "0.1.0", "0.2.0"]
    assert [problem.partition(" bytes in all")[1] != "" for problem in release.problems] == [True, True]
    assert bucket.asked()[1] == 3


async def test_manifests_have_a_time_for_all_of_them(bucket: Bucket, mock_clock: trio.testing.MockClock) -> None:
    """What has not come after ten minutes is given up: the others are shown, and what is kept of it."""
    for number in range(3):
        bucket.publish(f"0.{number}.0", FILES)
    before = await bucket.load()
    bucket.publish("0.1.0", FILES | {"new": "new"})
    bucket.publish("0.3.0", FILES)
    gate = bucket.client.hold(lambda request: request.kind == "get_object")
    releases: list[Release] = []

    async def load() -> None:
        releases.append(await bucket.load())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load)
        await gate.wait_arrived(2)
        mock_clock.jump(601)
    assert releases[0].manifests == before.manifests
    assert [problem.partition(": ")[2] for problem in releases[0].problems] == ["not here after 600 s"]


# What is missing on the disk


@pytest.mark.parametrize("how", ["emptied", "was full"])
@pytest.mark.parametrize("is_online", [True, False])
async def test_what_is_known_is_kept_again(bucket: Bucket, how: str, *, is_online: bool) -> None:
    """What a live catalog knows and the disk has not is kept at the next load; then it serves offline."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    if how == "was full":
        bucket.directory.write_bytes(b"")
    catalog = bucket.catalog()
    before = await catalog.load()
    await catalog.attributes_of(ONE)
    bucket.client.heal()
    if how == "emptied":
        await catalog.load()
        shutil.rmtree(bucket.directory)
    else:
        bucket.directory.unlink()
    if not is_online:
        bucket.go_offline()
    bucket.asked()
    await catalog.load()
    assert bucket.asked()[1] == 0
    bucket.go_offline()
    another = bucket.catalog()
    assert (await another.load()).manifests == before.manifests
    assert another.attributes(ONE) == catalog.attributes(ONE) is not None
    assert another.attributes(TWO) == catalog.attributes(TWO)


async def test_a_disk_that_has_everything_is_left_alone(bucket: Bucket) -> None:
    """A load that finds all on the disk writes the list of manifests, whose age it tells, and nothing else."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()

    def times() -> dict[str, int]:
        files = [path for path in bucket.directory.rglob("*") if path.is_file() and path.name != "index"]
        return {path.name: path.stat().st_mtime_ns for path in files}

    before = times()
    await catalog.load()
    await bucket.load()
    assert times() == before


async def test_publishing_again_and_again_takes_no_memory(bucket: Bucket) -> None:
    """Of a manifest that is replaced at each refresh the last one is remembered, and so many warnings."""
    catalog = bucket.catalog()
    for number in range(20):
        bucket.publish("0.1.0", FILES | {"new": f"{number}"})
        await catalog.load()
    gc.collect()
    old = manifest_json(FILES | {"new": "3"})
    assert not any(isinstance(one, Manifest) and one.data == old for one in gc.get_objects())
    for number in range(2_000):
        catalog._warn_once("x", number=str(number))
    assert len(catalog._told) <= 1_024


async def test_two_processes_add_to_what_is_kept(bucket: Bucket) -> None:
    """What one process listed is still kept after another, with other manifests, has kept its own."""
    bucket.publish("0.1.0", {"old": "old"})
    await bucket.load()
    withdrawn = bucket.store.delete(manifest_key("0.1.0"))
    bucket.publish("0.2.0", {"new": "new"})
    assert names(await bucket.load()) == ["0.2.0"]
    bucket.store.remove(manifest_key("0.1.0"), withdrawn)
    bucket.asked()
    catalog = bucket.catalog()
    await catalog.load()
    assert bucket.asked() == (1, 0, 0, 0)
    assert catalog.attributes(object_version("old", "old")) is not None


async def test_a_cache_that_cannot_be_written(bucket: Bucket) -> None:
    """Nothing can be kept below a regular file: loading and asking go on, with one warning for each thing."""
    bucket.directory.write_bytes(b"")
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert names(await catalog.load()) == ["0.1.0"]
    assert catalog.attributes(ONE) is not None
    kept = [Path(entry["file"]).name for entry in logs if "cannot be kept" in entry["event"]]
    assert sorted(kept) == ["attributes", "index", file_name("0.1.0")]
    assert bucket.asked() == (3, 1, 1, 0)


async def test_heads_with_a_cache_that_cannot_be_written(bucket: Bucket) -> None:
    """A size is told although it cannot be kept; that is one warning, however many there are."""
    bucket.directory.write_bytes(b"")
    catalog = bucket.catalog()
    bucket.publish("0.1.0", FILES)
    with structlog.testing.capture_logs() as logs:
        assert (await catalog.attributes_of(ONE)).size_bytes == 3
        assert (await catalog.attributes_of(TWO)).size_bytes == 3
    assert warnings(logs) == ["cannot be kept; it will be asked for again"]


# What is refused


async def test_a_bad_manifest_refuses_only_itself(bucket: Bucket) -> None:
    """One bad manifest is a problem that is told; the versions around it are shown."""
    bucket.publish("0.1.0", FILES)
    bucket.publish_bytes("0.2.0", b"<html>")
    bucket.publish("0.3.0", FILES)
    release = await bucket.load()
    assert names(release) == ["0.1.0", "0.3.0"]
    [problem] = release.problems
    assert problem.startswith(f"{file_name('0.2.0')}: not a manifest")


async def test_a_refusal_is_told_once(bucket: Bucket) -> None:
    """A refused manifest is fetched once and logged once, and stays among the problems; a new fault is told."""
    bucket.publish("0.1.0", FILES)
    bucket.publish_bytes("0.2.0", b"<html>")
    catalog = bucket.catalog()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert len((await catalog.load()).problems) == 1
    assert warnings(logs) == ["dataset version refused"]
    assert logs[0]["manifest"] == manifest_key("0.2.0")
    assert bucket.asked() == (3, 2, 1, 0)
    bucket.publish_bytes("0.2.0", b"[]")
    with structlog.testing.capture_logs() as logs:
        await catalog.load()
    assert warnings(logs) == ["dataset version refused"]


async def test_a_refused_manifest_that_is_mended(bucket: Bucket) -> None:
    """A bad manifest that is replaced by a good one is shown at the next load."""
    bucket.publish("0.1.0", FILES)
    bucket.publish_bytes("0.2.0", b"<html>")
    catalog = bucket.catalog()
    await catalog.load()
    bucket.publish("0.2.0", FILES)
    assert names(await catalog.load()) == ["0.1.0", "0.2.0"]


async def test_a_manifest_that_is_too_large_is_not_fetched(bucket: Bucket) -> None:
    """A manifest listed with more bytes than are taken is refused unfetched."""
    bucket.publish("0.1.0", FILES)
    bucket.store.put(manifest_key("0.2.0"), Pattern(MAX_MANIFEST_BYTES + 1))
    release = await bucket.load()
    assert names(release) == ["0.1.0"]
    assert "50,331,649 bytes; at most 50,331,648 are taken" in release.problems[0]
    assert bucket.asked() == (1, 1, 1, 0)


async def test_two_manifests_of_one_version(bucket: Bucket) -> None:
    """Of two manifests with the same version the one that was there first is shown, whatever their names."""
    bucket.store.put(f"{PROJECT}/manifests/z_manifest_v1.0.0.json", manifest_json({"first": "1"}))
    bucket.store.put(f"{PROJECT}/manifests/a_manifest_v1.0.0.json", manifest_json({"second": "2"}))
    bucket.publish("0.1.0", FILES)
    release = await bucket.load()
    assert names(release) == ["0.1.0", "1.0.0"]
    assert [file.path for file in release.manifests[1].files] == [("first",)]
    assert release.problems == ("a_manifest_v1.0.0.json: the same version as z_manifest_v1.0.0.json",)


@pytest.mark.parametrize("data", [b"longer than that", b"x"])
async def test_equal_hashes_with_different_sizes(bucket: Bucket, data: bytes) -> None:
    """An entry that gives known bytes another length is a content of its own; no version is refused for it."""
    bucket.publish("0.1.0", {"a": "same", "b": "2"})
    bucket.store.put(f"{PROJECT}/c/d", data, version_id=version_id_of("same"))
    bucket.publish_bytes("0.2.0", manifest_json({"c/d": "same"}))
    catalog = bucket.catalog()
    release = await catalog.load()
    assert (names(release), release.problems) == (["0.1.0", "0.2.0"], ())
    contents = catalog.contents(release.manifests)
    first, _, other = [contents.of(file) for manifest in release.manifests for file in manifest.files]
    assert first.content_id != other.content_id
    assert [known.size_bytes for known in map(catalog.known, (first, other)) if known] == [4, len(data)]
    [contradiction] = contents.contradictions
    assert contradiction.startswith(f"{file_name('0.2.0')}: 'c/d': {len(data)} bytes, not 4")


async def test_a_size_that_cannot_be_is_asked_for_once(bucket: Bucket) -> None:
    """A listed size of 0 for a file with the hash of some bytes is not believed: HEAD is asked, and kept."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    bucket.lie_in_listings(ONE, size_bytes=0)
    release = await catalog.load()
    content = catalog.contents(release.manifests).by_entry[ONE, hash_of("one")]
    assert catalog.known(content) is None
    bucket.asked()
    assert (await catalog.learn(content)).size_bytes == 3
    assert bucket.asked() == (0, 0, 0, 1)
    later = bucket.catalog()
    await later.load()
    known = later.known(content)
    assert known is not None
    assert known.size_bytes == 3
    assert bucket.asked() == (1, 0, 0, 0)


async def test_an_object_that_is_empty_against_its_hash(bucket: Bucket) -> None:
    """Where HEAD, too, gives size 0 for the hash of some bytes, that is what stands there; it is asked for once."""
    bucket.publish("0.1.0", FILES, sizes={"s/1.nwb": 0})
    catalog = bucket.catalog()
    release = await catalog.load()
    content = catalog.contents(release.manifests).by_entry[ONE, hash_of("one")]
    bucket.asked()
    for _ in range(2):
        assert (await catalog.learn(content)).size_bytes == 0
    assert bucket.asked() == (0, 0, 0, 1)
    assert catalog.known(content) is not None


async def test_a_size_that_a_reply_contradicts_is_asked_for_once(bucket: Bucket) -> None:
    """A wrong size in a listing: when a reply contradicts it HEAD is asked, once, and the right size is kept."""
    bucket.publish("0.1.0", FILES)
    bucket.lie_in_listings(ONE, size_bytes=4)
    catalog = bucket.catalog()
    release = await catalog.load()
    content = catalog.contents(release.manifests).by_entry[ONE, hash_of("one")]
    bucket.asked()
    assert await catalog.look_again(content)
    assert not await catalog.look_again(content)
    assert bucket.asked() == (0, 0, 0, 1)
    for one in (catalog, bucket.catalog()):
        await one.load()
        known = one.known(content)
        assert known is not None
        assert known.size_bytes == 3


async def test_a_size_that_cannot_be_asked_for_again_stays(bucket: Bucket) -> None:
    """Where HEAD fails, what is known is not forgotten."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    release = await catalog.load()
    content = catalog.contents(release.manifests).by_entry[ONE, hash_of("one")]
    bucket.go_offline()
    assert not await catalog.look_again(content)
    assert catalog.known(content) is not None


async def test_the_size_of_another_source(bucket: Bucket) -> None:
    """A content whose first object is gone has the size and time of the next one, also where HEAD has to be asked."""
    bucket.publish("0.1.0", {"a": "same"})
    bucket.publish("0.2.0", {"b": "same"})
    bucket.store.remove(f"{PROJECT}/a", version_id_of("same"))
    for is_listed in (True, False):
        if not is_listed:
            bucket.refuse_to_list_versions()
        catalog = Catalog(bucket.client, bucket.directory / str(is_listed), origin=ORIGIN, project=PROJECT)
        release = await catalog.load()
        contents = catalog.contents(release.manifests)
        content = contents.of(release.manifests[0].files[0])
        assert [source.key for source in content.sources] == [f"{PROJECT}/a", f"{PROJECT}/b"]
        assert (await catalog.learn(content)).size_bytes == 4


async def test_sizes_without_etags_are_listed_again(bucket: Bucket) -> None:
    """Sizes that were kept without ETags are used offline, and complete after one listing when there is a network."""
    bucket.publish("0.1.0", FILES)
    await bucket.load()
    rows = json.loads(read_kept(bucket.directory / "attributes") or b"")
    write_kept(bucket.directory / "attributes", json.dumps([row[:4] for row in rows]).encode())
    bucket.go_offline()
    catalog = bucket.catalog()
    await catalog.load()
    known = catalog.attributes(ONE)
    assert known is not None
    assert (known.size_bytes, known.etag) == (3, None)
    bucket.client.heal()
    for listings in (1, 0):
        bucket.asked()
        catalog = bucket.catalog()
        await catalog.load()
        known = catalog.attributes(ONE)
        assert known is not None
        assert known.etag
        assert bucket.asked() == (1, 0, listings, 0)


async def test_different_sizes_without_hashes_are_no_contradiction(bucket: Bucket) -> None:
    """Files without a hash are different files, whatever their sizes."""
    table = document({"a": "1", "b": "2"})
    for entry in table["data_files"].values():
        entry["file_hash"] = "placeholder"
    bucket.publish("0.1.0", {"a": "1", "b": "2"}, sizes={"a": 1, "b": 2})
    bucket.publish_bytes("0.1.0", json.dumps(table).encode())
    assert (await bucket.load()).problems == ()


# Where versions cannot be listed


async def test_sizes_by_head_where_listing_is_refused(bucket: Bucket) -> None:
    """A bucket that does not let versions be listed still mounts; sizes are asked for when they are needed."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    catalog = bucket.catalog()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert names(await catalog.load()) == ["0.1.0"]
    assert warnings(logs) == ["object versions cannot be listed; sizes are asked for one by one"]
    bucket.asked()
    assert catalog.attributes(ONE) is None
    assert (await catalog.attributes_of(ONE)).size_bytes == 3
    assert await catalog.attributes_of(ONE) is catalog.attributes(ONE)
    assert bucket.asked() == (0, 0, 0, 1)


async def test_a_listing_that_broke_off_is_tried_at_the_next_load(bucket: Bucket) -> None:
    """A failure of the listing of versions does not keep the dataset from being shown; the next load lists."""
    bucket.publish("0.1.0", FILES)
    bucket.client.fail(NO_NETWORK, kind="list_versions")
    catalog = bucket.catalog()
    assert names(await catalog.load()) == ["0.1.0"]
    assert catalog.attributes(ONE) is None
    bucket.asked()
    await catalog.load()
    assert bucket.asked() == (1, 0, 1, 0)
    assert catalog.attributes(ONE) is not None


async def test_a_disk_that_hangs_keeps_nobody_waiting(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a size waits no longer than they want for the disk to keep it; then it is known."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    catalog = bucket.catalog()
    await catalog.load()
    gate = threading.Event()
    monkeypatch.setattr("vbnfs.dataset.catalog.append_kept_line", lambda path, text: gate.wait(10))
    try:
        with trio.move_on_after(0.5) as waiting:
            await catalog.attributes_of(ONE)
    finally:
        gate.set()
    assert waiting.cancelled_caught
    assert catalog.attributes(ONE) is not None


async def test_heads_are_kept_for_the_next_mount(bucket: Bucket) -> None:
    """What HEAD told one process, and what it told another meanwhile, a third one knows without asking."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    first, second = bucket.catalog(), bucket.catalog()
    for catalog in (first, second):
        await catalog.load()
    await first.attributes_of(ONE)
    await second.attributes_of(TWO)
    await second.learn_all(named([object_version("a.csv", "a")]))
    third = bucket.catalog()
    bucket.asked()
    await third.load()
    assert third.attributes(ONE) == first.attributes(ONE) is not None
    assert third.attributes(TWO) == second.attributes(TWO) is not None
    assert bucket.asked() == (1, 0, 0, 0)


async def test_a_damaged_head_is_asked_for_again(bucket: Bucket) -> None:
    """A size that was kept and is damaged costs one HEAD; the others are still known."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    catalog = bucket.catalog()
    await catalog.load()
    await catalog.attributes_of(ONE)
    await catalog.attributes_of(TWO)
    path = bucket.directory / "heads"
    path.write_bytes(path.read_bytes().replace(b'"project/s/1.nwb"', b'"project/s/9.nwb"'))
    catalog = bucket.catalog()
    await catalog.load()
    assert catalog.attributes(ONE) is None
    assert catalog.attributes(TWO) is not None
    bucket.asked()
    await catalog.attributes_of(ONE)
    assert bucket.asked() == (0, 0, 0, 1)


async def test_one_head_for_all_who_ask_at_once(bucket: Bucket) -> None:
    """However many look at an object at the same time, one by one or as a folder, it is asked for once."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await catalog.attributes_of(ONE)).size_bytes)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
        nursery.start_soon(catalog.learn_all, named([ONE, ONE, TWO, ONE]))
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert answers == [3] * 10
    assert bucket.asked() == (0, 0, 0, 2)


async def test_heads_at_once_are_bounded(bucket: Bucket) -> None:
    """A folder of many objects asks for 16 at a time."""
    files = {f"{number}": f"{number}" for number in range(40)}
    bucket.publish("0.1.0", files)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    versions = [object_version(path, content) for path, content in files.items()]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.learn_all, named(versions))
        await trio.testing.wait_all_tasks_blocked()
        assert bucket.client.in_flight == 16
        gate.open()
    assert bucket.client.most_in_flight == 16
    assert all(catalog.attributes(version) is not None for version in versions)
    assert bucket.asked() == (0, 0, 0, 40)


async def test_sizes_are_asked_for_ahead(bucket: Bucket) -> None:
    """What is wanted is asked for in its order, twenty at a time, and kept; who waits for one has it out of turn."""
    files = {f"{number:02}": f"{number}" for number in range(50)}
    bucket.publish("0.1.0", files)
    versions = [object_version(path, content) for path, content in files.items()]
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.ask_ahead)
        catalog.want(named(versions))
        await gate.wait_arrived(20)
        await trio.testing.wait_all_tasks_blocked()
        assert {request.name for request in gate.arrived} == {version.key for version in versions[:20]}
        nursery.start_soon(catalog.attributes_of, versions[-1])
        nursery.start_soon(catalog.attributes_of, versions[0])  # which is under way
        await gate.wait_arrived(21)
        assert gate.arrived[-1].name == versions[-1].key
        gate.open()
        while any(catalog.attributes(version) is None for version in versions):
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert bucket.asked() == (0, 0, 0, 50)


@pytest.mark.parametrize(("failure", "heads"), [(NO_NETWORK, 20), (NOT_ALLOWED, 50)])
async def test_asking_ahead_goes_on_after_failures(bucket: Bucket, failure: StorageError, heads: int) -> None:
    """Where nobody is reached no more is asked for until it is wanted again; other failures end nothing."""
    files = {f"{number:02}": f"{number}" for number in range(50)}
    bucket.publish("0.1.0", files)
    versions = [object_version(path, content) for path, content in files.items()]
    catalog = bucket.catalog()
    bucket.client.fail_when(lambda request: failure if request.kind == "head" else None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.ask_ahead)
        catalog.want(named(versions))
        await trio.testing.wait_all_tasks_blocked()
        assert bucket.asked()[3] <= heads
        bucket.client.heal()
        catalog.want(named(versions))
        while any(catalog.attributes(version) is None for version in versions):
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_nothing_is_asked_for_what_is_known(bucket: Bucket) -> None:
    """A folder whose sizes are all known costs nothing."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    bucket.asked()
    await catalog.learn_all(named([ONE, TWO]))
    assert bucket.asked() == (0, 0, 0, 0)


async def test_a_failing_object_leaves_the_others(bucket: Bucket) -> None:
    """Of a folder, an object that S3 will not tell of stays unknown, with one warning; the others are known."""
    bucket.publish("0.1.0", FILES)
    bucket.client.fail_when(lambda request: NOT_ALLOWED if request.name == ONE.key else None)
    catalog = bucket.catalog()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await catalog.learn_all(named([ONE, TWO]))
    assert [(entry["event"], entry["object"]) for entry in logs] == [("size unknown", str(ONE))]
    assert catalog.attributes(ONE) is None
    assert catalog.attributes(TWO) is not None
    with pytest.raises(AccessDeniedError, match="HTTP 403"):
        await catalog.attributes_of(ONE)


async def test_a_failure_is_shared_and_not_remembered(bucket: Bucket) -> None:
    """All who wait for one HEAD get its failure, of its own kind; who asks later asks anew."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    bucket.client.fail(Failure(ObjectGoneError("gone")), kind="head")
    failures: list[StorageError] = []

    async def ask() -> None:
        with pytest.raises(ObjectGoneError, match=r"^gone$") as told:
            await catalog.attributes_of(ONE)
        failures.append(told.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert len({id(failure) for failure in failures}) == 5
    assert bucket.asked() == (0, 0, 0, 1)
    assert (await catalog.attributes_of(ONE)).size_bytes == 3


async def test_a_cancelled_asker_costs_the_others_one_more_head(bucket: Bucket) -> None:
    """When the one who asked goes away, one of those who wait asks in its place, and all get the answer."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await catalog.attributes_of(ONE)).size_bytes)

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as impatient:
            impatient.start_soon(ask)
            await gate.wait_arrived()
            for _ in range(5):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        await gate.wait_arrived(2)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert answers == [3] * 5
    assert bucket.asked() == (0, 0, 0, 2)


async def test_a_cancelled_waiter_disturbs_nobody(bucket: Bucket) -> None:
    """Who waits for another's HEAD may go away: the HEAD goes on."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.attributes_of, ONE)
        await gate.wait_arrived()
        async with trio.open_nursery() as impatient:
            impatient.start_soon(catalog.attributes_of, ONE)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        gate.open()
    assert catalog.attributes(ONE) is not None
    assert bucket.asked() == (0, 0, 0, 1)


# Choosing


def release_of(*versions: str, problems: tuple[str, ...] = ()) -> Release:
    manifests = tuple(Manifest(file_name(v), DatasetVersion(v), b"", 0, ()) for v in versions)
    return Release(manifests, problems)


def test_the_newest_is_chosen() -> None:
    """Without a wish, or for `latest`, the last one is chosen, else the one that is wished for."""
    release = release_of("0.9.0", "0.10.0")
    assert release.choose(None) == release.choose("latest") == DatasetVersion("0.10.0")
    assert release_of("latest", "0.10.0").choose("latest") == DatasetVersion("latest"), "one of that very name"
    assert release.choose("0.9.0") == DatasetVersion("0.9.0")


def test_a_version_that_there_is_not() -> None:
    """A wish that cannot be met is refused with those that can."""
    with pytest.raises(DatasetError, match=r"no dataset version 0\.5\.0; there are: 0\.9\.0, 0\.10\.0$"):
        release_of("0.9.0", "0.10.0").choose("0.5.0")


def test_nothing_to_choose_from() -> None:
    """Where every version was refused, the reasons are told."""
    with pytest.raises(DatasetError, match=r"^no dataset version can be shown:\n  first\n  second$"):
        release_of(problems=("first", "second")).choose(None)
    with pytest.raises(DatasetError, match=r"^no dataset version can be shown$"):
        release_of().choose("0.1.0")
