"""Sizes and times by HEAD: one for all callers, bounded, stored; and their prefetching."""

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
from tests.dataset.build import (
    named,
)
from tests.fakes.client import Failure
from vbnfs.errors import AccessDeniedError, ObjectGoneError, StorageError

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
    """Whoever asks for a size waits no longer than they want for the disk to keep it; then it is known."""
    bucket.publish("0.1.0", FILES)
    bucket.refuse_to_list_versions()
    catalog = bucket.catalog()
    await catalog.load()
    gate = threading.Event()
    monkeypatch.setattr("vbnfs.dataset.stored_files.append_stored_line", lambda path, text: gate.wait(10))
    try:
        with trio.move_on_after(0.5) as waiting:
            await catalog.sizes.fetch_object(ONE)
    finally:
        gate.set()
    assert waiting.cancelled_caught
    assert catalog.sizes.of_object(ONE) is not None


async def test_heads_are_kept_for_the_next_mount(bucket: Bucket) -> None:
    """What HEAD told one process, and what it told another meanwhile, a third one knows without asking."""
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
    """A size that was kept and is damaged costs one HEAD; the others are still known."""
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
    """A size is told although it cannot be kept; that is one warning, however many there are."""
    bucket.directory.write_bytes(b"")
    catalog = bucket.catalog()
    bucket.publish("0.1.0", FILES)
    with structlog.testing.capture_logs() as logs:
        assert (await catalog.sizes.fetch_object(ONE)).size_bytes == 3
        assert (await catalog.sizes.fetch_object(TWO)).size_bytes == 3
    assert warnings(logs) == ["cannot be kept; it will be asked for again"]


async def test_one_head_for_all_who_ask_at_once(bucket: Bucket) -> None:
    """However many look at an object at the same time, one by one or as a folder, it is asked for once."""
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
    """Of a folder, an object that S3 will not tell of stays unknown, with one warning; the others are known."""
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
    """All who wait for one HEAD get its failure, of its own kind; who asks later asks anew."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    gate = bucket.client.hold(is_head)
    bucket.client.fail(Failure(ObjectGoneError("gone")), kind="head")
    failures: list[StorageError] = []

    async def ask() -> None:
        with pytest.raises(ObjectGoneError, match=r"^gone$") as told:
            await catalog.sizes.fetch_object(ONE)
        failures.append(told.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert len({id(failure) for failure in failures}) == 5
    assert bucket.asked() == (0, 0, 0, 1)
    assert (await catalog.sizes.fetch_object(ONE)).size_bytes == 3


async def test_a_cancelled_asker_costs_the_others_one_more_head(bucket: Bucket) -> None:
    """When the one who asked goes away, one of those who wait asks in its place, and all get the answer."""
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
    """Who waits for another's HEAD may go away: the HEAD goes on."""
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
    """What is wanted is asked for in its order, twenty at a time, and kept; who waits for one has it out of turn."""
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
    """Where nobody is reached no more is asked for until it is wanted again; other failures end nothing."""
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
