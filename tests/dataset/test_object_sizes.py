"""Sizes and times of objects: from listings, and from HEAD where these are contradicted."""

import json

import pytest
import structlog

from tests.dataset.bucket import (
    FILES,
    NO_NETWORK,
    ONE,
    TWO,
    Bucket,
    names,
    object_version,
    warnings,
)
from tests.dataset.build import (
    ORIGIN,
    PROJECT,
    document,
    file_name,
    hash_of,
    manifest_json,
    version_id_of,
)
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.stored_files import read_stored, write_stored
from vbnfs.errors import ObjectGoneError
from vbnfs.objects import ListedVersion, ObjectAttributes

# From listings


async def test_sizes_and_times_are_those_of_the_version(bucket: Bucket) -> None:
    """Each object version has its own size and S3's time, also where a newer version of the object exists."""
    bucket.publish("0.1.0", {"a": "short"})
    bucket.publish("0.2.0", {"a": "a longer content"})
    catalog = bucket.catalog()
    await catalog.load()
    for content in ("short", "a longer content"):
        row = bucket.store.get(f"{PROJECT}/a", version_id_of(content))
        assert row is not None
        listed = ObjectAttributes(len(content), int(row.modified.timestamp()) * 10**9, row.etag.strip('"'))
        assert catalog.sizes.of_object(object_version("a", content)) == listed
        assert await catalog.sizes.fetch_object(object_version("a", content)) == listed
    assert bucket.asked() == (1, 2, 1, 0)


async def test_an_object_that_is_gone_is_not_listed_for_again(bucket: Bucket) -> None:
    """A file whose object does not exist stays without a size, and costs no listing at each refresh."""
    bucket.publish("0.1.0", FILES)
    bucket.store.remove(ONE.key, str(ONE.version_id))
    catalog = bucket.catalog()
    await catalog.load()
    bucket.asked()
    assert names(await catalog.load()) == ["0.1.0"]
    assert bucket.asked() == (1, 0, 0, 0)
    assert catalog.sizes.of_object(ONE) is None
    assert catalog.sizes.of_object(TWO) is not None
    with pytest.raises(ObjectGoneError):
        await catalog.sizes.fetch_object(ONE)


async def test_sizes_without_etags_are_listed_again(bucket: Bucket) -> None:
    """Sizes that were stored without ETags serve offline, and are complete after one listing online."""
    bucket.publish("0.1.0", FILES)
    await bucket.load()
    rows = json.loads(read_stored(bucket.directory / "attributes") or b"")
    write_stored(bucket.directory / "attributes", json.dumps([row[:4] for row in rows]).encode())
    bucket.go_offline()
    catalog = bucket.catalog()
    await catalog.load()
    known = catalog.sizes.of_object(ONE)
    assert known is not None
    assert (known.size_bytes, known.etag) == (3, None)
    bucket.client.heal()
    for listings in (1, 0):
        bucket.asked()
        catalog = bucket.catalog()
        await catalog.load()
        known = catalog.sizes.of_object(ONE)
        assert known is not None
        assert known.etag
        assert bucket.asked() == (1, 0, listings, 0)


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
    assert catalog.sizes.of_object(ONE) is not None


async def test_a_listing_that_broke_off_is_tried_at_the_next_load(bucket: Bucket) -> None:
    """A failure of the listing of versions does not keep the dataset from being shown; the next load lists."""
    bucket.publish("0.1.0", FILES)
    bucket.client.fail(NO_NETWORK, kind="list_versions")
    catalog = bucket.catalog()
    assert names(await catalog.load()) == ["0.1.0"]
    assert catalog.sizes.of_object(ONE) is None
    bucket.asked()
    await catalog.load()
    assert bucket.asked() == (1, 0, 1, 0)
    assert catalog.sizes.of_object(ONE) is not None


# Contradictions


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
    assert [known.size_bytes for known in map(catalog.sizes.get, (first, other)) if known] == [4, len(data)]
    [contradiction] = contents.contradictions
    assert contradiction.startswith(f"{file_name('0.2.0')}: 'c/d': {len(data)} bytes, not 4")


async def test_different_sizes_without_hashes_are_no_contradiction(bucket: Bucket) -> None:
    """Files without a hash are different files, whatever their sizes."""
    table = document({"a": "1", "b": "2"})
    for entry in table["data_files"].values():
        entry["file_hash"] = "placeholder"
    bucket.publish("0.1.0", {"a": "1", "b": "2"}, sizes={"a": 1, "b": 2})
    bucket.publish_bytes("0.1.0", json.dumps(table).encode())
    assert (await bucket.load()).problems == ()


async def test_a_size_that_cannot_be_is_asked_for_once(bucket: Bucket) -> None:
    """A listed size of 0 for the hash of some bytes is not believed: HEAD asks, once, and its reply is stored."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    bucket.lie_in_listings(ONE, size_bytes=0)
    release = await catalog.load()
    content = catalog.contents(release.manifests).by_entry[ONE, hash_of("one")]
    assert catalog.sizes.get(content) is None
    bucket.asked()
    assert (await catalog.sizes.fetch(content)).size_bytes == 3
    assert bucket.asked() == (0, 0, 0, 1)
    later = bucket.catalog()
    await later.load()
    known = later.sizes.get(content)
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
        assert (await catalog.sizes.fetch(content)).size_bytes == 0
    assert bucket.asked() == (0, 0, 0, 1)
    assert catalog.sizes.get(content) is not None


async def test_a_size_that_a_reply_contradicts_is_asked_for_once(bucket: Bucket) -> None:
    """A wrong size in a listing: when a reply contradicts it HEAD asks, once, and the right size is stored."""
    bucket.publish("0.1.0", FILES)
    bucket.lie_in_listings(ONE, size_bytes=4)
    catalog = bucket.catalog()
    release = await catalog.load()
    content = catalog.contents(release.manifests).by_entry[ONE, hash_of("one")]
    bucket.asked()
    assert await catalog.sizes.recheck(content)
    assert not await catalog.sizes.recheck(content)
    assert bucket.asked() == (0, 0, 0, 1)
    for one in (catalog, bucket.catalog()):
        await one.load()
        known = one.sizes.get(content)
        assert known is not None
        assert known.size_bytes == 3


async def test_a_size_that_cannot_be_asked_for_again_stays(bucket: Bucket) -> None:
    """Where HEAD fails, what is known is not forgotten."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    release = await catalog.load()
    content = catalog.contents(release.manifests).by_entry[ONE, hash_of("one")]
    bucket.go_offline()
    assert not await catalog.sizes.recheck(content)
    assert catalog.sizes.get(content) is not None


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
        assert (await catalog.sizes.fetch(content)).size_bytes == 4


async def test_a_confirmed_size_counts_more_than_a_listed_one(bucket: Bucket) -> None:
    """Where a listing is wrong about two sources, and only the second can be asked for, its size is the content's."""
    bucket.publish("0.1.0", {"a": "same"})
    bucket.publish("0.2.0", {"b": "same"})
    first, second = object_version("a", "same"), object_version("b", "same")
    for version in (first, second):
        bucket.lie_in_listings(version, size_bytes=5)
    catalog = bucket.catalog()
    release = await catalog.load()
    content = catalog.contents(release.manifests).of(release.manifests[0].files[0])
    assert content.sources == (first, second)
    bucket.store.remove(first.key, str(first.version_id))
    assert await catalog.sizes.recheck(content)
    known = catalog.sizes.get(content)
    assert known is not None
    assert known.size_bytes == len("same")
    assert await catalog.sizes.fetch(content) == known
