"""Sizes and times by HEAD: one for all callers, bounded, stored; and their prefetching."""

import json
import threading

import pytest
import structlog
import trio
import trio.testing

from tests.dataset.bucket import (
    FILES,
    NO_NETWORK,
    NOT_ALLOWED,
    ONE,
    TWO,
    Bucket,
    is_head,
    names,
    object_version,
    warnings,
)
from tests.dataset.build import hash_of, named
from tests.fakes.client import Failure
from vbnfs.dataset.stored_sizes import attribute_rows
from vbnfs.errors import AccessDeniedError, ObjectGoneError, StorageError
from vbnfs.objects import ObjectAttributes, ObjectVersion

# From HEAD


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
    assert catalog.sizes.of_object(ONE) is None
    assert (await catalog.sizes.fetch_object(ONE)).size_bytes == 3
    assert await catalog.sizes.fetch_object(ONE) is catalog.sizes.of_object(ONE)
    assert bucket.asked() == (0, 0, 0, 1)


async def test_a_disk_that_hangs_keeps_nobody_waiting(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller with a deadline does not wait for the disk beyond it; then the size is known."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    catalog = bucket.catalog()
    await catalog.load()
    gate, asked = threading.Event(), trio.Event()

    def append(path: object, text: str) -> None:
        trio.from_thread.run_sync(asked.set)
        gate.wait(60)

    monkeypatch.setattr("vbnfs.dataset.stored_files.append_stored_line", append)
    try:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as waiting:

                async def end() -> None:
                    await asked.wait()
                    waiting.cancel()

                nursery.start_soon(end)
                await catalog.sizes.fetch_object(ONE)
    finally:
        gate.set()
    assert waiting.cancelled_caught
    assert catalog.sizes.of_object(ONE) is not None


async def test_heads_are_kept_for_the_next_mount(bucket: Bucket) -> None:
    """The replies to HEADs of two processes are known to a third one without a request."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    first, second = bucket.catalog(), bucket.catalog()
    for catalog in (first, second):
        await catalog.load()
    await first.sizes.fetch_object(ONE)
    await second.sizes.fetch_object(TWO)
    await second.sizes.fetch_all(named([object_version("a.csv", "a")]))
    third = bucket.catalog()
    bucket.asked()
    await third.load()
    assert third.sizes.of_object(ONE) == first.sizes.of_object(ONE) is not None
    assert third.sizes.of_object(TWO) == second.sizes.of_object(TWO) is not None
    assert bucket.asked() == (1, 0, 0, 0)


async def test_a_damaged_head_is_asked_for_again(bucket: Bucket) -> None:
    """A stored size that is damaged costs one HEAD; the others are still known."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    catalog = bucket.catalog()
    await catalog.load()
    await catalog.sizes.fetch_object(ONE)
    await catalog.sizes.fetch_object(TWO)
    path = bucket.directory / "heads"
    path.write_bytes(path.read_bytes().replace(b'"project/s/1.nwb"', b'"project/s/9.nwb"'))
    catalog = bucket.catalog()
    await catalog.load()
    assert catalog.sizes.of_object(ONE) is None
    assert catalog.sizes.of_object(TWO) is not None
    bucket.asked()
    await catalog.sizes.fetch_object(ONE)
    assert bucket.asked() == (0, 0, 0, 1)


async def test_heads_with_a_cache_that_cannot_be_written(bucket: Bucket) -> None:
    """A size is returned although it cannot be stored; that is one warning, however many sizes there are."""
    bucket.directory.write_bytes(b"")
    catalog = bucket.catalog()
    bucket.publish("0.1.0", FILES)
    with structlog.testing.capture_logs() as logs:
        assert (await catalog.sizes.fetch_object(ONE)).size_bytes == 3
        assert (await catalog.sizes.fetch_object(TWO)).size_bytes == 3
    assert warnings(logs) == ["cannot be kept; it will be asked for again"]


async def test_a_refresh_after_a_head_parses_no_listed_sizes(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a HEAD, a refresh reads what HEADs have returned; listed sizes are parsed when their file has changed."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    content = catalog.contents((await catalog.load()).manifests).by_entry[ONE, hash_of("one")]
    await catalog.sizes.recheck(content)
    parsed: list[bytes] = []

    def parse(data: bytes) -> dict[ObjectVersion, ObjectAttributes]:
        parsed.append(data)
        return attribute_rows(data)

    monkeypatch.setattr("vbnfs.dataset.stored_sizes.attribute_rows", parse)
    await catalog.load()
    [[key, *_]] = json.loads(parsed[0])
    assert (len(parsed), key) == (1, ONE.key)


async def test_a_lost_head_is_stored_again(bucket: Bucket) -> None:
    """If only the file of HEADs is lost, the next refresh of the process that sent them stores them again."""
    bucket.publish("0.1.0", FILES)
    bucket.lie_in_listings(ONE, size_bytes=4)
    catalog = bucket.catalog()
    await catalog.load()
    content = catalog.contents((await catalog.load()).manifests).by_entry[ONE, hash_of("one")]
    assert await catalog.sizes.recheck(content)
    (bucket.directory / "heads").unlink()
    await catalog.load()
    later = bucket.catalog()
    await later.load()
    assert later.sizes.of_object(ONE) == catalog.sizes.of_object(ONE)


async def test_one_head_for_all_who_ask_at_once(bucket: Bucket) -> None:
    """However many callers ask for an object at the same time, one by one or as a folder, one HEAD is sent."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await catalog.sizes.fetch_object(ONE)).size_bytes)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
        nursery.start_soon(catalog.sizes.fetch_all, named([ONE, ONE, TWO, ONE]))
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
        nursery.start_soon(catalog.sizes.fetch_all, named(versions))
        await trio.testing.wait_all_tasks_blocked()
        assert bucket.client.in_flight == 16
        gate.open()
    assert bucket.client.most_in_flight == 16
    assert all(catalog.sizes.of_object(version) is not None for version in versions)
    assert bucket.asked() == (0, 0, 0, 40)


async def test_nothing_is_asked_for_what_is_known(bucket: Bucket) -> None:
    """A folder whose sizes are all known costs nothing."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    bucket.asked()
    await catalog.sizes.fetch_all(named([ONE, TWO]))
    assert bucket.asked() == (0, 0, 0, 0)


async def test_a_failing_object_leaves_the_others(bucket: Bucket) -> None:
    """Of a folder, an object whose HEAD fails stays unknown, with one warning; the others are known."""
    bucket.publish("0.1.0", FILES)
    bucket.client.fail_when(lambda request: NOT_ALLOWED if request.name == ONE.key else None)
    catalog = bucket.catalog()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await catalog.sizes.fetch_all(named([ONE, TWO]))
    assert [(entry["event"], entry["object"]) for entry in logs] == [("size unknown", str(ONE))]
    assert catalog.sizes.of_object(ONE) is None
    assert catalog.sizes.of_object(TWO) is not None
    with pytest.raises(AccessDeniedError, match="HTTP 403"):
        await catalog.sizes.fetch_object(ONE)


async def test_a_failure_is_shared_and_not_remembered(bucket: Bucket) -> None:
    """All callers that wait for one HEAD get a copy of its failure; a later caller sends a new HEAD."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    bucket.client.fail(Failure(ObjectGoneError("gone")), kind="head")
    failures: list[StorageError] = []

    async def ask() -> None:
        with pytest.raises(ObjectGoneError, match=r"^gone$") as caught:
            await catalog.sizes.fetch_object(ONE)
        failures.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert len({id(failure) for failure in failures}) == 5
    assert bucket.asked() == (0, 0, 0, 1)
    assert (await catalog.sizes.fetch_object(ONE)).size_bytes == 3


async def test_a_cancelled_asker_costs_the_others_one_more_head(bucket: Bucket) -> None:
    """When the caller that sent the HEAD is cancelled, one of those that wait sends it anew, for all."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await catalog.sizes.fetch_object(ONE)).size_bytes)

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
    """A caller that waits for another's HEAD can be cancelled: the HEAD goes on."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.sizes.fetch_object, ONE)
        await gate.wait_arrived()
        async with trio.open_nursery() as impatient:
            impatient.start_soon(catalog.sizes.fetch_object, ONE)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        gate.open()
    assert catalog.sizes.of_object(ONE) is not None
    assert bucket.asked() == (0, 0, 0, 1)


# Prefetching


async def test_sizes_are_asked_for_ahead(bucket: Bucket) -> None:
    """Sizes are prefetched in order, twenty at a time, and stored; a caller that waits for one goes first."""
    files = {f"{number:02}": f"{number}" for number in range(50)}
    bucket.publish("0.1.0", files)
    versions = [object_version(path, content) for path, content in files.items()]
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.sizes.run_prefetches)
        catalog.sizes.prefetch(named(versions))
        await gate.wait_arrived(20)
        await trio.testing.wait_all_tasks_blocked()
        assert {request.name for request in gate.arrived} == {version.key for version in versions[:20]}
        nursery.start_soon(catalog.sizes.fetch_object, versions[-1])
        nursery.start_soon(catalog.sizes.fetch_object, versions[0])  # which is under way
        await gate.wait_arrived(21)
        assert gate.arrived[-1].name == versions[-1].key
        gate.open()
        while any(catalog.sizes.of_object(version) is None for version in versions):
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert bucket.asked() == (0, 0, 0, 50)


@pytest.mark.parametrize(("failure", "heads"), [(NO_NETWORK, 20), (NOT_ALLOWED, 50)])
async def test_asking_ahead_goes_on_after_failures(bucket: Bucket, failure: StorageError, heads: int) -> None:
    """If S3 is unreachable the queue is dropped, until sizes are wanted again; other failures end nothing."""
    files = {f"{number:02}": f"{number}" for number in range(50)}
    bucket.publish("0.1.0", files)
    versions = [object_version(path, content) for path, content in files.items()]
    catalog = bucket.catalog()
    bucket.client.fail_when(lambda request: failure if request.kind == "head" else None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.sizes.run_prefetches)
        catalog.sizes.prefetch(named(versions))
        await trio.testing.wait_all_tasks_blocked()
        assert bucket.asked()[3] <= heads
        bucket.client.heal()
        catalog.sizes.prefetch(named(versions))
        while any(catalog.sizes.of_object(version) is None for version in versions):
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
