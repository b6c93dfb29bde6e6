"""Reading manifests: what is taken, the order of versions, the names of contents."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.build import (
    BUCKET,
    ORIGIN,
    PROJECT,
    document,
    entry,
    file_name,
    hash_of,
    manifest,
    manifest_json,
    parse,
    url_of,
    with_entry,
    with_url,
)
from tests.dataset.real_list import BUCKET as REAL_BUCKET
from tests.dataset.real_list import RELEASES, real_file_name, real_files, real_manifest_json
from vbnfs.dataset.manifest import (
    DataFile,
    DatasetVersion,
    Origin,
    entries_of,
    parse_manifest,
    version_of_file_name,
)
from vbnfs.errors import ManifestError
from vbnfs.objects import ObjectVersion

# What is taken


def test_every_field_is_where_it_belongs() -> None:
    """A file has its path less the project's folder, the key with it, the version id and the hash."""
    parsed = parse(manifest_json({"a/b.nwb": "content"}), version="0.5.0", modified_ns=7)
    version = ObjectVersion(f"{PROJECT}/a/b.nwb", entry("a/b.nwb")["version_id"])
    assert parsed.files == (DataFile(("a", "b.nwb"), version, hash_of("content")),)
    assert parsed.file_name == file_name("0.5.0")
    assert parsed.dataset_version == DatasetVersion("0.5.0")
    assert parsed.modified_ns == 7
    assert parsed.data == manifest_json({"a/b.nwb": "content"})


def test_entries_as_they_were_written() -> None:
    """The entries that the files were made of come in the files' order, with URL, name and hash as they stand."""
    table = document({"b.csv": "1", "z/s.nwb": "2", "c/s.nwb": "3"})
    table["data_files"]["0"]["file_hash"] = "None"
    table["data_files"]["1"]["file_hash"] = None
    parsed = parse(json.dumps({name: table[name] for name in reversed(table)}).encode())
    entries = entries_of(parsed)
    assert [(e.section, e.name, e.is_metadata) for e in entries] == [
        ("metadata_files", "b.csv", True),
        ("data_files", "0", False),
        ("data_files", "1", False),
    ]
    assert [e.url for e in entries] == [url_of("/".join(file.path)) for file in parsed.files]
    assert [e.version_id for e in entries] == [file.version.version_id for file in parsed.files]
    assert [e.file_hash for e in entries] == [hash_of("1"), "None", None]


def test_tables_come_before_data_in_the_order_of_the_file() -> None:
    """Files come in the manifest's order, whatever the order of the two sections in it."""
    table = document({"b.csv": "1", "a.csv": "2", "z/s.nwb": "3", "c/s.nwb": "4"})
    turned = {name: table[name] for name in reversed(table)}
    paths = [("b.csv",), ("a.csv",), ("z", "s.nwb"), ("c", "s.nwb")]
    assert [file.path for file in parse(json.dumps(turned).encode()).files] == paths


@pytest.mark.parametrize(
    "change",
    [
        {"data_pipeline": "placeholder"},
        {"data_pipeline": [{"name": "AllenSDK", "version": "2.16.2", "comment": ""}]},
        {"project_name": "project-B2"},
        {"manifest_version": "B"},
        {"metadata_files": {"units": entry("project_metadata/units.csv")}},
        {"metadata_files": {"units.csv": entry("project_metadata/units")}},
        {"metadata_files": {}},
        {"data_files": {}},
        {"something": [float("nan"), float("inf"), None, {"url": 3}]},
    ],
)
def test_what_does_not_matter_may_be_anything(change: dict[str, Any]) -> None:
    """Names of tables, of the project, the pipeline and unknown parts take no part in reading a manifest."""
    table = document({"a.csv": "1", "b/s.nwb": "2"}) | change
    urls = [e["url"] for section in ("metadata_files", "data_files") for e in table[section].values()]
    assert [url_of("/".join(file.path)) for file in parse(json.dumps(table).encode()).files] == urls


@pytest.mark.parametrize(
    "url",
    [
        f"https://{BUCKET}.s3.us-west-2.amazonaws.com/{PROJECT}/a/b.nwb",
        f"https://{BUCKET}.s3-us-west-2.amazonaws.com/{PROJECT}/a/b.nwb",
        f"https://{BUCKET}.s3.dualstack.us-west-2.amazonaws.com/{PROJECT}/a/b.nwb",
        f"http://{BUCKET}.s3.amazonaws.com/{PROJECT}/a/b.nwb",
        f"https://s3.us-west-2.amazonaws.com/{BUCKET}/{PROJECT}/a/b.nwb",
        f"http://s3.amazonaws.com/{BUCKET}/{PROJECT}/a/b.nwb",
        f"https://{BUCKET}.s3.cn-north-1.amazonaws.com.cn/{PROJECT}/a/b.nwb",
        f"https://{BUCKET}.s3.us-iso-east-1.c2s.ic.gov/{PROJECT}/a/b.nwb",
        f"http://localhost:8333/{BUCKET}/{PROJECT}/a/b.nwb",
    ],
)
def test_addresses_of_the_bucket(url: str) -> None:
    """The bucket may stand in the host or first in the path, at AWS with or without a region, or at the endpoint."""
    [_, file] = parse(with_url(url), origin=Origin(BUCKET, "http://localhost:8333")).files
    assert file.version.key == f"{PROJECT}/a/b.nwb"
    assert file.path == ("a", "b.nwb")


def test_a_bucket_with_dots_and_s3_in_its_name() -> None:
    """The bucket is everything before the last `s3` of the host."""
    origin = Origin("my.s3.data")
    assert origin.key_of("https://my.s3.data.s3.eu-central-1.amazonaws.com/p/f") == "p/f"


def test_a_path_style_address_with_an_ipv6_endpoint() -> None:
    """An endpoint with an IPv6 address and a port is compared as a whole."""
    origin = Origin(BUCKET, "http://[::1]:8333")
    assert origin.key_of(f"http://[::1]:8333/{BUCKET}/p/f") == "p/f"
    with pytest.raises(ValueError, match="another host"):
        origin.key_of(f"http://[::1]:8334/{BUCKET}/p/f")


def test_paths_are_not_percent_decoded() -> None:
    """`%20` stays `%20`, in the key and in the tree, as AllenSDK has it."""
    [_, file] = parse(with_url(url_of("a%20b/%2e%2e/c%2Fd"))).files
    assert file.path == ("a%20b", "%2e%2e", "c%2Fd")
    assert file.version.key == f"{PROJECT}/a%20b/%2e%2e/c%2Fd"


def test_the_first_folder_need_not_be_the_project() -> None:
    """Whatever the first part of the path is, it is what the tree leaves out."""
    [_, file] = parse(with_url(f"http://{BUCKET}.s3.amazonaws.com/other/x/y")).files
    assert (file.path, file.version.key) == (("x", "y"), "other/x/y")


def test_a_byte_order_mark_is_no_matter() -> None:
    """A manifest may begin with UTF-8's byte order mark, and keeps it in its bytes."""
    data = b"\xef\xbb\xbf" + manifest_json({"a": "1"})
    assert parse(data).files == parse(manifest_json({"a": "1"})).files
    assert parse(data).data == data


def test_a_hash_in_capitals_is_the_same_hash() -> None:
    """Hashes are compared as numbers, not as text."""
    [_, file] = parse(with_entry(entry("x") | {"file_hash": hash_of("content").upper()})).files
    assert file.file_hash == hash_of("content")


@pytest.mark.parametrize("value", ["placeholder", "", "0" * 127, "0" * 129, "g" * 128, "٣" * 128, None, 3, ["a"]])
def test_what_is_no_hash_counts_as_none(value: Any) -> None:
    """Two equal placeholders do not make two files the same: each is known by its own version id."""
    table = document({})
    table["data_files"] = {
        "0": entry("a", "1") | {"file_hash": value},
        "1": entry("b", "2") | {"file_hash": value},
    }
    first, second = parse(json.dumps(table).encode()).files
    assert first.file_hash is None
    assert first.content_id(BUCKET) != second.content_id(BUCKET)


def test_an_entry_without_a_hash_is_taken() -> None:
    """A missing hash is no reason to refuse a version."""
    without = entry("a")
    del without["file_hash"]
    assert parse(with_entry(without)).files[1].file_hash is None


@pytest.mark.parametrize("version", RELEASES)
def test_manifests_of_the_real_size(version: str) -> None:
    """Manifests with the real 4,298 names are read, in order, with every key and version id."""
    parsed = parse_manifest(
        real_manifest_json(version), file_name=real_file_name(version), modified_ns=0, origin=Origin(REAL_BUCKET)
    )
    assert len(parsed.files) == 4298
    prefix = f"https://{REAL_BUCKET}.s3.us-west-2.amazonaws.com/"
    assert [prefix + file.version.key for file in parsed.files] == [url for url, _ in real_files()]
    ids = [file.version.version_id for file in parsed.files]
    assert (ids == [version_id for _, version_id in real_files()]) == (version == "0.4.0")


# Versions


def test_semantic_order() -> None:
    """Versions are ordered by number, pre-releases before the release, and names that are none before all."""
    ordered = ["A", "B", "latest", "0.1.0", "0.2.0-alpha", "0.2.0-alpha.2", "0.2.0-alpha.10", "0.2.0-rc.1"]
    ordered += ["0.2.0", "0.9.0", "0.10.0", "1.0.0", "1.0.0+a", "1.0.0+b", "10.0.0"]
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert [str(version) for version in sorted(map(DatasetVersion, shuffled))] == ordered


@given(st.lists(st.from_regex(r"\A(\d{1,2}\.\d{1,2}\.\d(-[a-b](\.\d)?)?(\+x)?|[AB])\Z"), min_size=2, max_size=2))
def test_the_order_is_total(texts: list[str]) -> None:
    """Of two versions one is less, or they are the same text: sorting has one outcome."""
    first, second = map(DatasetVersion, texts)
    assert [first < second, second < first, first == second].count(True) == 1


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("visual-behavior-neuropixels_project_manifest_v0.5.0.json", "0.5.0"),
        ("project-x_manifest_vA.json", "A"),
        ("_manifest_v1.json", "1"),
        ("a_manifest_v1_manifest_v2.json", "2"),
        ("a_manifest_v1.json.json", "1.json"),
    ],
)
def test_the_file_name_tells_the_version(name: str, version: str) -> None:
    """The version is what stands between `_manifest_v` and `.json`; its folder has a `v` before it."""
    found = version_of_file_name(name)
    assert found == DatasetVersion(version)
    assert found.folder == f"v{version}"


@pytest.mark.parametrize(
    "name",
    [
        "units.csv",
        "manifest_v1.json",
        "a_manifest_v.json",
        "a_manifest_v1.txt",
        "a_manifest_v1.json.bak",
        "a/_manifest_v1.json",
        "a_manifest_v../x.json",
        "a\x1b_manifest_v1.json",
        "a\n_manifest_v1.json",
        "a\u202e_manifest_v1.json",
        "a_manifest_v1\x07.json",
        "a" * 255 + "_manifest_v1.json",
    ],
)
def test_other_names_are_no_manifests(name: str) -> None:
    """A name that could not stand in a folder, or is not of that form, is not a manifest's."""
    assert version_of_file_name(name) is None
    with pytest.raises(ManifestError, match="not a manifest's name"):
        parse_manifest(manifest_json({}), file_name=name, modified_ns=0, origin=ORIGIN)


# Contents

hashes = st.sampled_from([hash_of("1"), hash_of("2")])
buckets = st.sampled_from(["bucket-a", "bucket-b"])
versions = st.builds(ObjectVersion, st.sampled_from(["p/a", "p/b"]), st.sampled_from(["1", "2"]))


@given(buckets, hashes, versions, buckets, hashes, versions)
def test_content_is_bucket_and_hash(
    bucket1: str, hash1: str, version1: ObjectVersion, bucket2: str, hash2: str, version2: ObjectVersion
) -> None:
    """Two files with hashes are the same content if and only if bucket and hash are equal."""
    first = DataFile(("a",), version1, hash1).content_id(bucket1)
    second = DataFile(("b",), version2, hash2).content_id(bucket2)
    assert (first == second) == ((bucket1, hash1) == (bucket2, hash2))


@given(buckets, versions, buckets, versions)
def test_content_without_hash_is_the_object_version(
    bucket1: str, version1: ObjectVersion, bucket2: str, version2: ObjectVersion
) -> None:
    """Two files without hashes are the same content if and only if bucket, key and version id are equal."""
    first = DataFile(("a",), version1, None).content_id(bucket1)
    second = DataFile(("b",), version2, None).content_id(bucket2)
    assert (first == second) == ((bucket1, version1) == (bucket2, version2))


def test_a_content_id_can_be_a_file_name() -> None:
    """A content id is 40 hex digits whatever it stands for, and stays the same in every release of vbnfs."""
    file = manifest("1.0.0", {"a": "content"}).files[0]
    assert file.content_id(BUCKET) == "bda14ae27b7becf6e2eea416a1e6fa0eda221703"
    assert (
        DataFile(("a",), ObjectVersion("p/../a", "v"), None).content_id(BUCKET)
        == "e1d31784eedddc60a0d039d7a4b6d9bda94c8414"
    )
