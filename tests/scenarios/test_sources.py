"""Real mounts of manifests and listings that contradict one another: who is believed, and who is harmed."""

import errno
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.cache_files import content_folders, scope_of
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import Behaviour, FakeS3Server, Reply, Request, error, for_kind, held
from tests.fixtures_mount import Mounts, run_vbnfs, until
from tests.scenarios.test_trust import errno_of, verified
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.verdict import Verdict
from vbnfs.host.atomic import replace_file
from vbnfs.host.places import file_at

ONE, TWO = (os.urandom(700_000) for _ in range(2))  # of one length: only their bytes tell them apart


@pytest.fixture
def dataset() -> FakeDataset:
    return FakeDataset()


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    with FakeS3Server(dataset.store) as server:
        yield server


def in_parts(request: Request, honest: Reply) -> Reply | None:
    """All objects were uploaded in parts: their ETags say nothing of their bytes."""
    if request.kind != "list_versions":
        return None
    return replace(honest, body=re.sub(rb"<ETag>&quot;|<ETag>\"", b"<ETag>&quot;in-parts-", honest.body))


def lists_size(key: str, size_bytes: int) -> Behaviour:
    """Listings of versions give an object another size than it has."""
    pattern = re.compile(rb"(<Key>[^<]*" + re.escape(key.encode()) + rb"</Key>.*?<Size>)\d+(</Size>)")
    wrong = rb"\g<1>%d\g<2>" % size_bytes
    return for_kind("list_versions", lambda _, honest: replace(honest, body=pattern.sub(wrong, honest.body)))


def is_refused(path: Path) -> bool:
    """Whether reading a file fails with EIO."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno == errno.EIO
    return False


@pytest.mark.parametrize("behaviours", [[], [in_parts]], ids=["MD5", "in parts"])
def test_a_wrong_hash_in_the_oldest_manifest(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, behaviours: list[Behaviour]
) -> None:
    """An older version gives object 1 the hash of object 2: a newer version's file 2 is object 2 from the first byte.

    The wrong entry harms its own version alone: there the file is refused once it has been hashed.
    """
    one, two = dataset.entry("one", ONE), dataset.entry("two", TWO)
    dataset.publish_entries("0.1.0", {"one": {**one, "file_hash": two["file_hash"]}})
    dataset.publish_entries("0.2.0", {"one": one, "two": two})
    server.behaviours += behaviours
    mount = mounts(server.endpoint_url)
    assert (mount.path / "one").read_bytes() == ONE
    assert (mount.path / "two").read_bytes() == TWO
    old = mount.path / "manifests/v0.1.0/one"
    old.read_bytes()
    until(lambda: "S3 has other bytes" in verified(old))
    until(lambda: is_refused(old))  # the kernel lets go of its pages a moment later
    for name, data in (("one", ONE), ("two", TWO)):
        until(lambda name=name: verified(mount.path / name).startswith("blake2b:"))  # type: ignore[misc]
        assert (mount.path / name).read_bytes() == data


def test_a_wrong_hash_that_nothing_contradicts(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """An object that only one manifest names, with another's hash: the whole file tells, and the other is fetched."""
    one, two = dataset.entry("one", ONE), dataset.entry("two", TWO)
    dataset.publish_entries("0.1.0", {"one": {**one, "file_hash": two["file_hash"]}})
    dataset.publish_entries("0.2.0", {"two": two})
    server.behaviours.append(in_parts)
    mount = mounts(server.endpoint_url)
    (mount.path / "two").read_bytes()
    until(lambda: verified(mount.path / "two").startswith("blake2b:"))
    assert (mount.path / "two").read_bytes() == TWO
    assert mount.status()["metrics"]["mismatched_files"] == 1


def test_a_version_appears_that_has_what_was_given_up(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset
) -> None:
    """No source of a file had the right bytes; then another version names one more: it is asked, while mounted."""
    one, two = dataset.entry("one", ONE), dataset.entry("two", TWO)
    dataset.publish_entries("0.1.0", {"one": {**one, "file_hash": two["file_hash"]}})
    server.behaviours.append(in_parts)
    mount = mounts(server.endpoint_url, "--refresh", "1")
    (mount.path / "one").read_bytes()
    until(lambda: "S3 has other bytes" in verified(mount.path / "one"))
    dataset.publish_entries("0.2.0", {"two": two})
    path = mount.path / "manifests/v0.2.0/two"
    until(path.exists)
    until(lambda: not is_refused(path))
    assert path.read_bytes() == TWO


def test_who_found_a_file_wrong_has_ended_since(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, tmp_path: Path
) -> None:
    """Another process condemns a file that was opened here before, and fetches nothing: opening it has it judged."""
    dataset.publish("0.1.0", {"file": ONE})
    mount = mounts(server.endpoint_url)
    path = mount.path / "file"
    assert path.read_bytes() == ONE
    until(lambda: verified(path).startswith("blake2b:"))
    [folder] = content_folders(tmp_path / "cache")
    verdict = Verdict("0" * 128, "0" * 32, "2026-01-01T00:00:00Z", mismatches=1)
    place = tmp_path / "cache/verified-v1" / scope_of(folder) / "bad" / folder.name
    replace_file(file_at(place), json.dumps(asdict(verdict)).encode())
    until(lambda: is_refused(path))
    until(lambda: not is_refused(path))
    assert path.read_bytes() == ONE


@pytest.mark.parametrize("is_mounted", [False, True])
def test_one_of_two_objects_is_gone(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, is_mounted: bool
) -> None:
    """Two versions hold the same bytes under two keys. The older object is deleted: both versions' files are read."""
    old = dataset.entry("old/name", ONE)
    dataset.publish_entries("0.1.0", {"old/name": old})
    dataset.publish_entries("0.2.0", {"new/name": dataset.entry("new/name", ONE)})
    mount = mounts(server.endpoint_url) if is_mounted else None
    dataset.store.remove(f"{dataset.project}/old/name", old["version_id"])
    mount = mount or mounts(server.endpoint_url)
    for path in ("new/name", "manifests/v0.1.0/old/name"):
        assert (mount.path / path).stat().st_size == len(ONE)
        assert (mount.path / path).read_bytes() == ONE


def test_one_of_two_objects_is_forbidden(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """The same for an object that may not be read."""
    dataset.publish("0.1.0", {"old/name": ONE})
    dataset.publish("0.2.0", {"new/name": ONE})
    server.behaviours.append(
        lambda request, _: error(403, "AccessDenied") if request.key.endswith("old/name") else None
    )
    mount = mounts(server.endpoint_url)
    assert (mount.path / "new/name").read_bytes() == ONE


def test_a_size_of_0_that_is_wrong(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """A listing gives size 0 to a file with bytes: it is read whole, from the first look on."""
    dataset.publish("0.1.0", {"file": ONE, "empty": b""})
    server.behaviours.append(lists_size("file", 0))
    mount = mounts(server.endpoint_url)
    assert (mount.path / "file").read_bytes() == ONE
    assert (mount.path / "file").stat().st_size == len(ONE)
    assert (mount.path / "empty").read_bytes() == b""
    assert server.count("head") == 1


def test_an_object_without_bytes_against_its_hash(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """An object that is empty in S3, and has the hash of some bytes: opening it fails, it never reads as empty."""
    wrong = {**dataset.entry("file", b""), "file_hash": hashlib.blake2b(ONE).hexdigest()}
    dataset.publish_entries("0.1.0", {"file": wrong})
    mount = mounts(server.endpoint_url)
    assert errno_of(mount.path / "file") == errno.EIO
    assert "cannot have the manifest's hash" in str(mount.status()["last_error"])
    mount.umount()
    mount.mount()
    assert errno_of(mount.path / "file") == errno.EIO


@pytest.mark.parametrize("size_bytes", [1, 699_999, 700_001, 2_000_000])
def test_a_size_that_is_wrong(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, size_bytes: int) -> None:
    """A wrong size in the listing: one read may fail with ESTALE, then HEAD has been asked, and all is read."""
    dataset.publish("0.1.0", {"file": ONE})
    server.behaviours.append(lists_size("file", size_bytes))
    mount = mounts(server.endpoint_url)
    path = mount.path / "file"
    assert errno_of(path) == errno.ESTALE
    assert path.stat().st_size == len(ONE)
    assert path.read_bytes() == ONE
    assert server.count("head") == 1
    until(lambda: verified(path).startswith("blake2b:"))
    mount.umount()
    mount.mount()
    assert path.read_bytes() == ONE


def test_a_size_that_is_wrong_of_two_files(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """Two versions differ in what they say of one object: what is found out of the one file holds for the other."""
    entry = dataset.entry("file", ONE)
    dataset.publish_entries("0.1.0", {"file": {"url": entry["url"], "version_id": entry["version_id"]}})
    dataset.publish_entries("0.2.0", {"file": entry})
    server.behaviours.append(lists_size("file", 300_000))
    mount = mounts(server.endpoint_url)
    old, new = mount.path / "manifests/v0.1.0/file", mount.path / "file"
    assert old.stat().st_size == 300_000
    assert errno_of(new) == errno.ESTALE
    until(lambda: old.stat().st_size == len(ONE))
    assert old.read_bytes() == new.read_bytes() == ONE


def test_verify_asks_for_a_size_that_is_wrong(server: FakeS3Server, dataset: FakeDataset) -> None:
    """`vbnfs verify --fetch` of a file that was listed with a wrong size: HEAD tells the right one, it is read."""
    dataset.publish("0.1.0", {"file": ONE})
    server.behaviours.append(lists_size("file", 699_999))
    done = run_vbnfs("verify", "--fetch", "--endpoint-url", server.endpoint_url, "file")
    assert (done.returncode, "1 of 1 files good" in done.stderr) == (0, True), done.stderr
    assert server.count("head") == 1


@pytest.mark.parametrize("size_bytes", [BLOCK_BYTES, 2 * BLOCK_BYTES, 300_000])
def test_a_size_that_is_wrong_of_a_file_that_is_cached(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, tmp_path: Path, size_bytes: int
) -> None:
    """The whole file is cached, sizes were lost, and the listing is wrong now: it is not cut short, nor given up."""
    dataset.publish("0.1.0", {"file": ONE})
    mount = mounts(server.endpoint_url)
    path = mount.path / "file"
    path.read_bytes()
    until(lambda: verified(path).startswith("blake2b:"))
    mount.umount()
    shutil.rmtree(tmp_path / "cache/datasets-v1")
    server.behaviours.append(lists_size("file", size_bytes))
    mount.mount()
    assert errno_of(path) == errno.ESTALE
    assert path.read_bytes() == ONE
    until(lambda: verified(path).startswith("blake2b:"))
    assert mount.status()["metrics"]["mismatched_files"] == 0


def test_a_backport_with_a_slipped_hash(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """A version with a lower number that is published later: what was there before keeps inode, time and bytes."""
    dataset.publish("0.2.0", {"file": ONE})
    mount = mounts(server.endpoint_url)
    before = (mount.path / "file").stat()
    slipped = {**dataset.entry("other", b"shorter"), "file_hash": hashlib.blake2b(ONE).hexdigest()}
    dataset.publish_entries("0.1.5", {"other": slipped})
    mount.umount()
    run_vbnfs("versions", "--endpoint-url", server.endpoint_url)  # which asks for the list
    mount.mount()
    assert sorted(os.listdir(mount.path / "manifests")) == ["latest", "v0.1.5", "v0.2.0"]
    after = (mount.path / "file").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, len(ONE))
    assert (mount.path / "file").read_bytes() == ONE
    assert (mount.path / "manifests/v0.1.5/other").read_bytes() == b"shorter"
    assert "contradict one another" in Path(mount.status()["log_file"]).read_text()


def test_new_names_show_in_stat(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """A version that appears gives a file new names: stat gives the new number of links, of open files, too."""
    dataset.publish("0.1.0", {"file": ONE})
    mount = mounts(server.endpoint_url, "--refresh", "1")
    path = mount.path / "manifests/v0.1.0/file"  # whose attributes the kernel keeps
    links = path.stat().st_nlink
    with path.open("rb") as file:
        dataset.publish("0.2.0", {"file": ONE, "again": ONE})
        until(lambda: "v0.2.0" in os.listdir(mount.path / "manifests"))
        until(lambda: path.stat().st_nlink == links + 4)  # two in the version's folder, two for AllenSDK
        assert os.fstat(file.fileno()).st_nlink == links + 4


def test_an_answer_that_waited_does_not_bring_old_links_back(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset
) -> None:
    """A size that is asked for while a version appears: the file's number of links is that of the new tree."""
    dataset.publish("0.1.0", {"folder/file": ONE, "folder/other": TWO})
    gate = threading.Event()
    server.behaviours.append(for_kind("list_versions", lambda *_: error(403, "AccessDenied")))
    server.behaviours.append(for_kind("head", held(gate)))
    mount = mounts(server.endpoint_url, "--refresh", "1")
    path = mount.path / "manifests/v0.1.0/folder/file"
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(path.stat)
        server.wait_until(lambda server: server.count("head") == 1)
        dataset.publish("0.2.0", {"folder/file": ONE})
        until(lambda: "0.2.0" in mount.status()["versions"])
        gate.set()
        links = waiting.result().st_nlink
    assert links == (mount.path / "manifests/v0.2.0/folder/file").stat().st_nlink
    until(lambda: path.stat().st_nlink == links)
    assert links > (mount.path / "folder/other").stat().st_nlink


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_an_object_that_nothing_binds(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, etag: str) -> None:
    """An object without a version id of its own, and without an ETag that names its bytes, cannot be opened."""
    entry = dataset.entry("file", ONE)
    key = f"{dataset.project}/file"
    dataset.store.remove(key, entry["version_id"])
    dataset.store.put(key, ONE, version_id="null")
    dataset.publish_entries("0.1.0", {"file": {**entry, "version_id": "null"}})
    replaced = f"<ETag>{etag}</ETag>".replace('"', "&quot;").encode()

    def lists_no_etag(_: Request, honest: Reply) -> Reply:
        return replace(honest, body=re.sub(rb"<ETag>.*?</ETag>", replaced, honest.body))

    server.behaviours.append(for_kind("list_versions", lists_no_etag))
    mount = mounts(server.endpoint_url)
    assert errno_of(mount.path / "file") == errno.EIO
    assert "nothing would tell that it was replaced" in str(mount.status()["last_error"])


@pytest.mark.parametrize("has_hash", [True, False])
def test_an_object_without_a_version_id_of_its_own(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, has_hash: bool
) -> None:
    """A bucket without versioning: of an object that is replaced nothing more is read; a new mount reads the new."""
    entry = dataset.entry("file", ONE)
    key = f"{dataset.project}/file"
    dataset.store.remove(key, entry["version_id"])
    dataset.store.put(key, ONE, version_id="null")
    entry = {**entry, "version_id": "null"}
    if not has_hash:
        del entry["file_hash"]
    dataset.publish_entries("0.1.0", {"file": entry})
    mount = mounts(server.endpoint_url)
    with (mount.path / "file").open("rb", buffering=0) as file:
        assert file.read(4096) == ONE[:4096]
        dataset.store.put(key, TWO, version_id="null")
        file.seek(600_000)
        with pytest.raises(OSError, match="Stale") as caught:
            file.read(4096)
        assert caught.value.errno == errno.ESTALE
    mount.umount()
    mount.mount()
    if has_hash:  # it is not what was released
        (mount.path / "file").read_bytes()
        until(lambda: verified(mount.path / "file").startswith("no: mismatch"))
    else:
        assert (mount.path / "file").read_bytes() == TWO


def test_an_object_that_was_replaced_between_two_mounts(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset
) -> None:
    """What was listed of an object without a version id of its own is no fact: the next mount asks, and reads it."""
    entry, key = dataset.entry("file", ONE), f"{dataset.project}/file"
    dataset.store.remove(key, entry["version_id"])
    dataset.publish_entries("0.1.0", {"file": {"url": entry["url"], "version_id": "null"}})
    for data in (ONE, TWO, TWO[:300_000]):
        dataset.store.put(key, data, version_id="null")
        mount = mounts(server.endpoint_url)
        assert (mount.path / "file").read_bytes() == data
        mount.umount()


def test_a_replaced_object_of_which_nothing_is_listed(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset
) -> None:
    """Two mounts ask for it before and after it was replaced: what one keeps is not part of what the other reads."""
    old, new = os.urandom(3_000_000), os.urandom(3_000_000)
    entry, key = dataset.entry("file", old), f"{dataset.project}/file"
    dataset.store.remove(key, entry["version_id"])
    dataset.store.put(key, old, version_id="null")
    dataset.publish_entries("0.1.0", {"file": {"url": entry["url"], "version_id": "null"}})
    server.behaviours.append(for_kind("list_versions", lambda *_: error(403, "AccessDenied")))
    first, second = (mounts(server.endpoint_url, name=name) for name in ("first", "second"))
    with (first.path / "file").open("rb", buffering=0) as file:
        assert file.read(4096) == old[:4096]
    dataset.store.put(key, new, version_id="null")
    first.umount()
    assert (second.path / "file").read_bytes() == new


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_manifest_with_a_wrong_hash_is_withdrawn(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, is_whole: bool
) -> None:
    """What came from the object that it named, and the verdict on that, say nothing of the file that has the hash."""
    one, two = dataset.entry("one", ONE), dataset.entry("two", TWO)
    dataset.publish_entries("0.1.0", {"one": {**one, "file_hash": two["file_hash"]}})
    mount = mounts(server.endpoint_url)
    with (mount.path / "one").open("rb", buffering=0) as file:
        assert file.read(4096) == ONE[:4096]
        if is_whole:
            file.readall()
            until(lambda: "S3 has other bytes" in verified(mount.path / "one"))
    mount.umount()
    dataset.publish_entries("0.2.0", {"one": one, "two": two})
    dataset.store.delete(f"{dataset.project}/manifests/{dataset.project}_project_manifest_v0.1.0.json")
    run_vbnfs("versions", "--endpoint-url", server.endpoint_url)  # which asks for the list
    mount.mount()
    assert sorted(os.listdir(mount.path / "manifests")) == ["latest", "v0.2.0"]
    assert (mount.path / "two").read_bytes() == TWO
    until(lambda: verified(mount.path / "two").startswith("blake2b:"))


def test_verify_tries_all_sources(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, tmp_path: Path) -> None:
    """`vbnfs verify --fetch` finds the good source of a file whose first one has other bytes."""
    one, two = dataset.entry("one", ONE), dataset.entry("two", TWO)
    dataset.publish_entries("0.1.0", {"one": {**one, "file_hash": two["file_hash"]}})
    dataset.publish_entries("0.2.0", {"two": two})
    server.behaviours.append(in_parts)
    done = run_vbnfs("verify", "--fetch", "--endpoint-url", server.endpoint_url, "two")
    assert (done.returncode, "1 of 1 files good" in done.stderr) == (0, True), done.stderr
    mount = mounts(server.endpoint_url)
    assert (mount.path / "two").read_bytes() == TWO


@pytest.mark.parametrize("size_bytes", [1, 699_999, 700_001, 2_000_000])
def test_verify_asks_again_for_a_size_that_is_wrong(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset, size_bytes: int
) -> None:
    """`vbnfs verify --fetch` of a file that is listed with a wrong size asks HEAD, once, and fetches it whole."""
    dataset.publish("0.1.0", {"file": ONE})
    server.behaviours.append(lists_size("file", size_bytes))
    for _ in range(2):
        done = run_vbnfs("verify", "--fetch", "--endpoint-url", server.endpoint_url, "file")
        assert (done.returncode, "1 of 1 files good" in done.stderr) == (0, True), done
        assert server.count("head") == 1
    assert (mounts(server.endpoint_url).path / "file").read_bytes() == ONE


def test_diff_asks_again_for_a_size_that_is_wrong(server: FakeS3Server, dataset: FakeDataset) -> None:
    """`vbnfs diff` reads a table whole, of which the listing gives a wrong size."""
    dataset.publish("0.1.0", {"project_metadata/units.csv": b"unit_id,snr\n1,2\n"})
    dataset.publish("0.2.0", {"project_metadata/units.csv": b"unit_id,snr\n1,2\n3,4\n"})
    server.behaviours.append(lists_size("units.csv", 9))
    done = run_vbnfs("diff", "--json", "0.1.0", "0.2.0", "--endpoint-url", server.endpoint_url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tables"][0]["changes"]["added_ids"] == [3]


def test_what_is_shown_keeps_its_source(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """A version that turns up with an earlier time than those that are shown takes nothing from them."""
    dataset.publish("0.2.0", {"file": ONE})
    mount = mounts(server.endpoint_url, "--refresh", "1")
    before = (mount.path / "file").stat()
    slipped = {**dataset.entry("other", b"shorter"), "file_hash": hashlib.blake2b(ONE).hexdigest()}
    earlier = datetime(2000, 1, 1, tzinfo=UTC)
    dataset.publish_entries("0.1.5", {"other": slipped}, modified=earlier)
    until(lambda: "v0.1.5" in os.listdir(mount.path / "manifests"))
    after = (mount.path / "file").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, len(ONE))
    assert (mount.path / "file").read_bytes() == ONE
    assert os.getxattr(mount.path / "file", "user.vbnfs.url").partition(b"?")[0].endswith(b"/file")
    assert (mount.path / "manifests/v0.1.5/other").read_bytes() == b"shorter"
