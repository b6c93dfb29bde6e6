"""Copies of manifests: which bytes are shown and stored, and when they are requested again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
import structlog
import trio
import trio.testing

from tests.dataset.bucket import FILES, NO_NETWORK, Bucket, manifest_key, names, warnings
from tests.dataset.build import BUCKET, ORIGIN, file_name, hash_of, manifest_json
from tests.fakes.client import MemoryClient
from tests.fakes.store import Pattern
from vbnfs.dataset.manifest import MAX_MANIFEST_BYTES, Origin
from vbnfs.dataset.release import Release
from vbnfs.dataset.stored_files import read_stored, write_stored
from vbnfs.objects import ListedObject

# What is fetched


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


async def test_offline_with_a_manifest_missing(bucket: Bucket) -> None:
    """A version whose manifest is not stored cannot be shown offline; the others can."""
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


async def test_a_manifest_that_is_too_large_is_not_fetched(bucket: Bucket) -> None:
    """A manifest listed with more bytes than are taken is refused unfetched."""
    bucket.publish("0.1.0", FILES)
    bucket.store.put(manifest_key("0.2.0"), Pattern(MAX_MANIFEST_BYTES + 1))
    release = await bucket.load()
    assert names(release) == ["0.1.0"]
    assert "50,331,649 bytes; at most 50,331,648 are taken" in release.problems[0]
    assert bucket.asked() == (1, 1, 1, 0)


async def test_manifests_that_are_too_large_together(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more manifests than memory is meant for, the oldest are shown."""
    monkeypatch.setattr("vbnfs.dataset.manifest_copies._MAX_ALL_BYTES", 3 * len(manifest_json(FILES)))
    for number in range(5):
        bucket.publish(f"0.{number}.0", FILES)
    release = await bucket.load()
    assert names(release) == ["0.0.0", "0.1.0", "0.2.0"]
    assert [problem.partition(" bytes in all")[1] != "" for problem in release.problems] == [True, True]
    assert bucket.asked()[1] == 3


async def test_manifests_have_a_time_for_all_of_them(bucket: Bucket, mock_clock: trio.testing.MockClock) -> None:
    """A manifest that has not come after ten minutes is given up: the others are shown, and its stored copy."""
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


# What is proven


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


ELSEWHERE: Final = Origin(BUCKET, "https://lab.example")  # where an ETag may be anything


NO_MD5: Final = f'"{"0123456789abcdef" * 2}"'


def kept_manifests(bucket: Bucket) -> list[str]:
    return sorted(path.name for path in (bucket.directory / "manifests").glob("*.json"))


async def test_a_manifest_damaged_on_its_way(bucket: Bucket) -> None:
    """A manifest whose MD5 is not its ETag is fetched once more; the right bytes are stored."""
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
    """What comes wrong, and the same each time, is refused and not stored; the next load requests it again."""
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
    """A stored copy that is no manifest, or not of its ETag, is fetched and stored again."""
    bucket.publish("1.0.0", FILES)
    await bucket.load()
    path = bucket.directory / "manifests" / file_name("1.0.0")
    good = read_stored(path)
    assert good is not None
    head, _, data = good.partition(b"\n")
    for change in (flipped, proxy_page):
        write_stored(path, head + b"\n" + change(data))
        bucket.asked()
        assert (await bucket.load()).manifests[0].data == data
        assert bucket.asked()[1] == 1
        assert read_stored(path) == good


async def test_a_manifest_that_comes_differently_each_time(bucket: Bucket) -> None:
    """If ETags prove nothing, a manifest that comes twice, and differently, is refused and not stored."""
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
    """A flip that could not be noticed is not shown for good: the next load shows what comes then."""
    bucket.origin = ELSEWHERE
    bucket.publish("1.0.0", FILES)
    monkeypatch.setattr("tests.fakes.store.StoredVersion.etag", NO_MD5)
    tamper(bucket, "1.0.0", flipped, flipped)
    catalog = bucket.catalog()
    assert (await catalog.load()).manifests[0].data == flipped(manifest_json(FILES))
    for _ in range(2):
        assert (await catalog.load()).manifests[0].data == manifest_json(FILES)


@pytest.mark.parametrize("change", [flipped, proxy_page, None])
async def test_a_manifest_that_was_replaced_and_cannot_be_had(bucket: Bucket, change: Change | None) -> None:
    """While the new manifest of a version does not come, or comes wrong, the stored one is shown; offline, too."""
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
    """Without ETags, a manifest has changed if its size or time has."""

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
