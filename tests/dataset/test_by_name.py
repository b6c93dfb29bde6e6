"""A bucket that may be read and not listed: manifests that are known by name."""

import os
from pathlib import Path

import pytest
import structlog

from tests.dataset.bucket import FILES, ONE, Bucket, manifest_key, names, warnings
from tests.dataset.build import PROJECT, manifest_json
from tests.fakes.client import Request
from vbnfs.dataset.by_name import manifest_name
from vbnfs.dataset.catalog import Catalog
from vbnfs.errors import BusyError, ListingDeniedError, StorageError, TransportError

DENIED = ListingDeniedError("listing: HTTP 403 AccessDenied")


def refuse_lists(bucket: Bucket, error: StorageError = DENIED) -> None:
    bucket.client.fail_when(lambda request: error if request.kind.startswith("list") else None)


def knowing(bucket: Bucket, *versions: str) -> Catalog:
    return Catalog(bucket.client, bucket.directory, origin=bucket.origin, project=PROJECT, versions=versions)


def test_names_of_manifests() -> None:
    """A version is that of AllenSDK's file names; a whole file name stays."""
    assert manifest_name("p", "0.5.0") == "p_project_manifest_v0.5.0.json"
    assert manifest_name("p", "other_manifest_v1.json") == "other_manifest_v1.json"


async def test_what_is_known_by_name(bucket: Bucket) -> None:
    """Named manifests are shown, sizes are asked for one by one; what cannot be had is said, and why."""
    bucket.publish("0.1.0", FILES)
    bucket.publish("0.3.0", FILES)
    bucket.store.put(f"{PROJECT}/manifests/odd_manifest_v0.2.0.json", manifest_json(FILES))
    refuse_lists(bucket)
    catalog = knowing(bucket, "0.3.0", "odd_manifest_v0.2.0.json", "0.4.0")
    with structlog.testing.capture_logs() as logs:
        release = await catalog.load()
    assert names(release) == ["0.2.0", "0.3.0"]
    assert (release.is_offline, release.is_by_name, release.basis) == (False, True, "what is known by name")
    assert release.doubt is not None
    assert release.doubt.startswith("listing: HTTP 403 AccessDenied; check --bucket")
    [problem] = release.problems
    assert manifest_key("0.4.0") in problem
    assert warnings(logs)[0] == "manifests cannot be listed; going on with what is kept"
    assert catalog.sizes.of_object(ONE) is None
    assert (await catalog.sizes.fetch_object(ONE)).size_bytes == 3


async def test_the_same_bytes_as_with_a_list(bucket: Bucket) -> None:
    """Manifests that were found by name are those that a list gives, times and proofs included."""
    bucket.publish("0.1.0", FILES)
    listed = await bucket.load()
    bucket.directory = bucket.directory.with_name("another")
    refuse_lists(bucket)
    assert (await knowing(bucket, "0.1.0").load()).manifests == listed.manifests


async def test_what_was_found_by_name_is_kept(bucket: Bucket) -> None:
    """A later process needs no name, with and without network; and asks for a list, since none was had."""
    bucket.publish("0.1.0", FILES)
    refuse_lists(bucket)
    await knowing(bucket, "0.1.0").load()
    assert index_of(bucket).stat().st_mtime == 0
    bucket.asked()
    release = await knowing(bucket).load(max_age_seconds=300)
    assert (names(release), release.basis) == (["0.1.0"], "what is kept from before")
    assert bucket.asked() == (2, 0, 1, 0)  # with and without the slash behind "manifests"
    bucket.go_offline()
    assert names(await knowing(bucket).load()) == ["0.1.0"]


async def test_a_version_that_is_published_later_under_its_name(bucket: Bucket) -> None:
    """Names that were not there are asked for again at each load, those that were are not."""
    bucket.publish("0.1.0", FILES)
    refuse_lists(bucket)
    catalog = knowing(bucket, "0.1.0", "0.2.0")
    assert names(await catalog.load()) == ["0.1.0"]
    bucket.publish("0.2.0", FILES)
    bucket.asked()
    assert names(await catalog.load()) == ["0.1.0", "0.2.0"]
    assert bucket.asked()[3] == 1


async def test_a_list_needs_no_names(bucket: Bucket) -> None:
    """Where the bucket lists, names are not asked for, whatever they are."""
    bucket.publish("0.1.0", FILES)
    release = await knowing(bucket, "0.1.0", "9.9.9").load()
    assert (names(release), release.problems, release.doubt) == (["0.1.0"], (), None)
    assert bucket.asked() == (1, 1, 1, 0)
    os.utime(index_of(bucket), (0, 0))
    refuse_lists(bucket)
    assert names(await knowing(bucket).load()) == ["0.1.0"]


async def test_names_that_are_not_there(bucket: Bucket) -> None:
    """Where no name helps either, the failure is the list's, with what became of the names."""
    refuse_lists(bucket)
    with pytest.raises(ListingDeniedError, match=r"nothing is kept of the dataset \(known by its name only"):
        await knowing(bucket, "0.1.0").load()


@pytest.mark.parametrize("error", [TransportError("reset"), BusyError("503")])
async def test_names_are_not_asked_for_where_nothing_answers(bucket: Bucket, error: StorageError) -> None:
    """A server that cannot be reached, or is busy, is not asked for one manifest after the other."""
    bucket.publish("0.1.0", FILES)
    bucket.client.fail_when(lambda request: error)
    with pytest.raises(type(error)):
        await knowing(bucket, "0.1.0").load()
    assert bucket.asked()[3] == 0


async def test_a_server_that_is_busy_is_not_offline(bucket: Bucket) -> None:
    """A server that fails to list has replied: it is no reason to read nothing but what is cached."""
    bucket.publish("0.1.0", FILES)
    await bucket.load()

    def busy(request: Request) -> StorageError | None:
        return BusyError("listing: HTTP 503 SlowDown") if request.kind == "list_objects" else None

    bucket.client.fail_when(busy)
    release = await bucket.load()
    assert (names(release), release.is_offline) == (["0.1.0"], False)
    assert release.doubt is not None
    assert "HTTP 503" in release.doubt


def index_of(bucket: Bucket) -> Path:
    return bucket.directory / "index"
