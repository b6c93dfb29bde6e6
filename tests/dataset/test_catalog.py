"""A dataset as a whole: what a load requests, what it stores, and what serves without network."""

import gc
import hashlib
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from tests.dataset import real_list
from tests.dataset.bucket import FILES, ONE, TWO, Bucket, manifest_key, names, object_version, warnings
from tests.dataset.build import file_name, manifest_json
from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore, Pattern
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.manifest import Manifest, Origin
from vbnfs.errors import DatasetError, TransportError
from vbnfs.objects import ObjectAttributes, ObjectVersion

# What is requested


async def test_first_load(bucket: Bucket) -> None:
    """The first time: one listing, each manifest once, one listing of versions; no HEAD."""
    bucket.publish("0.9.0", FILES)
    bucket.publish("0.10.0", FILES | {"s/2.nwb": "changed"})
    release = await bucket.load()
    assert names(release) == ["0.9.0", "0.10.0"]
    assert (release.problems, release.is_offline) == ((), False)
    assert bucket.asked() == (1, 2, 1, 0)


async def test_the_first_time_both_listings_are_asked_for_at_once(bucket: Bucket) -> None:
    """Sizes cost no round trip of their own."""
    bucket.publish("0.1.0", FILES)
    gate = bucket.client.hold(lambda request: request.kind in {"list_objects", "list_versions"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bucket.load)
        await gate.wait_arrived(2)
        gate.open()


async def test_where_there_is_no_manifest_nobody_waits_for_sizes(bucket: Bucket) -> None:
    """A wrong --project is reported at once, though a listing of versions is under way; nothing else is logged."""
    gate = bucket.client.hold(lambda request: request.kind == "list_versions")
    with (
        structlog.testing.capture_logs() as logs,
        trio.fail_after(60),
        pytest.raises(DatasetError, match="--project"),
    ):
        await bucket.load()
    assert warnings(logs) == []
    gate.open()


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
    """What was learned is stored: a remount is one request."""
    bucket.publish("0.1.0", FILES)
    before = await bucket.load()
    bucket.asked()
    catalog = bucket.catalog()
    assert await catalog.load() == before
    assert catalog.sizes.of_object(ONE) == ObjectAttributes(3, 1_672_531_202 * 10**9, hashlib.md5(b"xxx").hexdigest())
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
    assert catalog.sizes.of_object(object_version("new", "new")) is not None


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
    assert catalog.sizes.of_object(object_version("new", "new")) is not None


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
    assert all(catalog.sizes.of_object(row) is not None for row in rows)
    assert 0 < counts[0] < len(rows)  # less than one for each object


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
        assert catalog.sizes.of_object(ONE) is not None


# Without network


async def test_offline_with_everything_kept(bucket: Bucket) -> None:
    """Without network a catalog shows what is stored, sizes included, and that it is offline."""
    bucket.publish("0.1.0", FILES)
    online = await bucket.load()
    bucket.go_offline()
    catalog = bucket.catalog()
    offline = await catalog.load()
    assert offline.is_offline
    assert offline.manifests == online.manifests
    assert catalog.sizes.of_object(ONE) is not None
    assert bucket.asked()[1:] == (1, 1, 0)  # those of the first load


async def test_a_silent_server_where_a_user_waits(bucket: Bucket, autojump_clock: trio.testing.MockClock) -> None:
    """A list that does not come is done without after five seconds, if one is stored and a user waits for it.

    The task that looks for new versions waits on, and a first load has nothing else.
    """
    bucket.publish("0.1.0", FILES)
    stored = await bucket.load()
    gate = bucket.client.hold(lambda request: request.kind == "list_objects")
    began = trio.current_time()
    release = await bucket.catalog().load(is_awaited=True)
    assert trio.current_time() - began == pytest.approx(5)
    assert (release.manifests, release.is_offline) == (stored.manifests, True)
    ended: list[bool] = []

    async def load(*, is_awaited: bool) -> None:
        await bucket.catalog().load(is_awaited=is_awaited)
        ended.append(is_awaited)

    for is_awaited in (False, True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(load, is_awaited=is_awaited))
            await gate.wait_arrived(2 + is_awaited)
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        bucket.directory = bucket.directory / "empty"
    assert ended == []


async def test_offline_with_nothing_kept(bucket: Bucket) -> None:
    """Without network, and with nothing stored, the reason is the client's."""
    bucket.publish("0.1.0", FILES)
    bucket.go_offline()
    with pytest.raises(TransportError, match="no route to host"):
        await bucket.load()


async def test_offline_nobody_asks_for_sizes(bucket: Bucket) -> None:
    """If sizes are not stored and there is no network, the dataset is shown, and no listing is requested."""
    bucket.publish("0.1.0", FILES)
    await bucket.load()
    (bucket.directory / "attributes").unlink()
    bucket.go_offline()
    bucket.asked()
    catalog = bucket.catalog()
    assert names(await catalog.load()) == ["0.1.0"]
    assert catalog.sizes.of_object(ONE) is None
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


# What is stored


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
    """If a stored file is damaged, its content is requested again, once, and then it is whole."""
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


@pytest.mark.parametrize("how", ["emptied", "was full"])
@pytest.mark.parametrize("is_online", [True, False])
async def test_what_is_known_is_kept_again(bucket: Bucket, how: str, *, is_online: bool) -> None:
    """What a catalog knows and the disk lacks is stored at the next load; then it serves offline."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    if how == "was full":
        bucket.directory.write_bytes(b"")
    catalog = bucket.catalog()
    before = await catalog.load()
    await catalog.sizes.fetch_object(ONE)
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
    assert another.sizes.of_object(ONE) == catalog.sizes.of_object(ONE) is not None
    assert another.sizes.of_object(TWO) == catalog.sizes.of_object(TWO)


async def test_a_disk_that_has_everything_is_left_alone(bucket: Bucket) -> None:
    """A load that finds all on the disk writes the list of manifests, for its age, and nothing else."""
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
    """Of a manifest that is replaced at each refresh only the last one is remembered."""
    catalog = bucket.catalog()
    for number in range(20):
        bucket.publish("0.1.0", FILES | {"new": f"{number}"})
        await catalog.load()
    gc.collect()
    old = manifest_json(FILES | {"new": "3"})
    assert not any(isinstance(one, Manifest) and one.data == old for one in gc.get_objects())


async def test_two_processes_add_to_what_is_kept(bucket: Bucket) -> None:
    """What one process has stored of a listing is still there after another one has stored its own."""
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
    assert catalog.sizes.of_object(object_version("old", "old")) is not None


async def test_a_cache_that_cannot_be_written(bucket: Bucket) -> None:
    """Nothing can be stored below a regular file: loading goes on, with one warning for each file."""
    bucket.directory.write_bytes(b"")
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert names(await catalog.load()) == ["0.1.0"]
    assert catalog.sizes.of_object(ONE) is not None
    kept = [Path(entry["file"]).name for entry in logs if "cannot be kept" in entry["event"]]
    assert sorted(kept) == ["attributes", "index", file_name("0.1.0")]
    assert bucket.asked() == (3, 1, 1, 0)
