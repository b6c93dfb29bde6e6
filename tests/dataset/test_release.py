"""Which versions there are: the list of manifests, what is refused, and which version is chosen."""

import os
import time
from collections.abc import Callable
from typing import Final

import pytest
import structlog
import trio

from tests.dataset.bucket import FILES, Bucket, manifest_key, names, warnings
from tests.dataset.build import PROJECT, file_name, manifest_json
from vbnfs.dataset.manifest import DatasetVersion, Manifest
from vbnfs.dataset.release import Release
from vbnfs.errors import BadReplyError, DatasetError, ListingDeniedError
from vbnfs.objects import ListedObject, ObjectAttributes

# The list of manifests


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
    """Without network a young list serves, too, and the release says that it is offline."""
    bucket.publish("0.1.0", FILES)
    await bucket.load()
    bucket.go_offline()
    release = await bucket.catalog().load(max_age_seconds=300)
    assert (names(release), release.is_offline) == (["0.1.0"], True)


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


async def test_the_structure_index_beside_the_manifests(bucket: Bucket) -> None:
    """It shows in the list of manifests, and is no object of their folder, as AllenSDK would read it."""
    bucket.publish("0.1.0", FILES)
    catalog = bucket.catalog()
    await catalog.load()
    assert catalog.published_index is None
    bucket.store.put(f"{PROJECT}/manifests.structure-index", b"index")
    assert names(await catalog.load()) == ["0.1.0"]
    assert catalog.published_index is not None
    assert catalog.published_index.attributes.size_bytes == 5
    folder = await bucket.client.list_objects(f"{PROJECT}/manifests/")
    assert catalog.published_index not in folder


async def test_a_bucket_that_lists_the_folder_of_manifests_alone(bucket: Bucket) -> None:
    """A policy with the prefix `<project>/manifests/` is enough: that is asked for, too."""
    bucket.publish("0.1.0", FILES)
    denied = ListingDeniedError("listing: HTTP 403")
    listing = {"kind": "list_objects", "name": f"{PROJECT}/manifests"}
    bucket.client.fail_when(
        lambda request: denied if {"kind": request.kind, "name": request.name} == listing else None
    )
    release = await bucket.load()
    assert (names(release), release.doubt) == (["0.1.0"], None)


async def test_no_manifest_at_all(bucket: Bucket) -> None:
    """A bucket without manifests is refused in words that name what may be wrong."""
    bucket.store.put(f"{PROJECT}/manifests/README.txt", b"")
    with pytest.raises(DatasetError, match="'data-bucket' below 'project/manifests/': check --bucket and --project"):
        await bucket.load()


async def test_being_offline_is_logged_once_each_time(bucket: Bucket) -> None:
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


async def test_the_index_is_kept_last(bucket: Bucket) -> None:
    """A load that is cancelled while it fetches manifests has stored no list of them."""
    bucket.publish("0.1.0", FILES)
    gate = bucket.client.hold(lambda request: request.kind == "get_object")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bucket.load)
        await gate.wait_arrived()
        nursery.cancel_scope.cancel()
    assert not (bucket.directory / "index").exists()


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
    """When a listing has lost all manifests at once, there is one warning, and the stored ones are shown."""
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


# What is refused


async def test_a_bad_manifest_refuses_only_itself(bucket: Bucket) -> None:
    """One bad manifest is a problem that is reported; the versions around it are shown."""
    bucket.publish("0.1.0", FILES)
    bucket.publish_bytes("0.2.0", b"<html>")
    bucket.publish("0.3.0", FILES)
    release = await bucket.load()
    assert names(release) == ["0.1.0", "0.3.0"]
    [problem] = release.problems
    assert problem.startswith(f"{file_name('0.2.0')}: not a manifest")


async def test_a_refusal_is_logged_once(bucket: Bucket) -> None:
    """A refused manifest is fetched once and logged once, and stays among the problems; a new fault is logged."""
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


async def test_two_manifests_of_one_version(bucket: Bucket) -> None:
    """Of two manifests with the same version the one that was there first is shown, whatever their names."""
    bucket.store.put(f"{PROJECT}/manifests/z_manifest_v1.0.0.json", manifest_json({"first": "1"}))
    bucket.store.put(f"{PROJECT}/manifests/a_manifest_v1.0.0.json", manifest_json({"second": "2"}))
    bucket.publish("0.1.0", FILES)
    release = await bucket.load()
    assert names(release) == ["0.1.0", "1.0.0"]
    assert [file.path for file in release.manifests[1].files] == [("first",)]
    assert release.problems == ("a_manifest_v1.0.0.json: the same version as z_manifest_v1.0.0.json",)


# Choosing


def release_of(*versions: str, problems: tuple[str, ...] = ()) -> Release:
    manifests = tuple(Manifest(file_name(v), DatasetVersion(v), b"", 0, ()) for v in versions)
    return Release(manifests, problems)


def test_the_newest_is_chosen() -> None:
    """Without a wanted version, or for `latest`, the last one is chosen, else the wanted one."""
    release = release_of("0.9.0", "0.10.0")
    assert release.choose(None) == release.choose("latest") == DatasetVersion("0.10.0")
    assert release_of("latest", "0.10.0").choose("latest") == DatasetVersion("latest"), "one of that very name"
    assert release.choose("0.9.0") == DatasetVersion("0.9.0")


def test_a_version_that_there_is_not() -> None:
    """A version that does not exist is refused, with the versions that do."""
    with pytest.raises(
        DatasetError, match=r"no dataset version 0\.5\.0; there are: 0\.9\.0, 0\.10\.0; near it: 0\.9\.0, 0\.10\.0$"
    ):
        release_of("0.9.0", "0.10.0").choose("0.5.0")


def test_nothing_to_choose_from() -> None:
    """Where every version was refused, the message has the reasons."""
    with pytest.raises(DatasetError, match=r"^no dataset version can be shown:\n  first\n  second$"):
        release_of(problems=("first", "second")).choose(None)
    with pytest.raises(DatasetError, match=r"^no dataset version can be shown$"):
        release_of().choose("0.1.0")
