"""Reading manifests: what is taken, what is refused, and with which words."""

import copy
import json
import random
import subprocess
import sys
import tracemalloc
from typing import Any, Final

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
)
from tests.dataset.real_list import BUCKET as REAL_BUCKET
from tests.dataset.real_list import RELEASES, real_file_name, real_files, real_manifest_json
from vbnfs.dataset.manifest import (
    MAX_MANIFEST_BYTES,
    DataFile,
    DatasetVersion,
    Manifest,
    Origin,
    entries_of,
    parse_manifest,
    version_of_file_name,
)
from vbnfs.dataset.names import split_path
from vbnfs.errors import ManifestError
from vbnfs.objects import ObjectVersion


def with_entry(changed: Any) -> bytes:
    """A manifest whose data entry "1" is `changed`, beside a good one."""
    table = document({"good/file.nwb": "good"})
    table["data_files"]["1"] = changed
    return json.dumps(table).encode()


def with_url(url: Any) -> bytes:
    return with_entry(entry("x/y.nwb") | {"url": url})


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


# What is refused

HOSTILE_PATHS = [
    "../x",
    "a/../../x",
    "a/./x",
    "/x",
    "a//x",
    "a/",
    "",
    "a\0b",
    "a\x1b]0;b",
    "a\nb",
    "a\u202eb",
    "a\u2066b",
    "a\udc80b",
    "b" * 256,
    "/".join(["b" * 200] * 20),
    "/".join("b" * 100),
]
HOSTILE_URLS = [
    f"https://evil.example/{PROJECT}/a",
    f"https://{BUCKET}.s3.us-west-2.amazonaws.com.evil.example/{PROJECT}/a",
    f"https://evil.s3.us-west-2.amazonaws.com/{PROJECT}/a",
    f"https://x.{BUCKET}.s3.us-west-2.amazonaws.com/{PROJECT}/a",
    f"https://user@{BUCKET}.s3.us-west-2.amazonaws.com/{PROJECT}/a",
    f"https://{BUCKET}.s3.us-west-2.amazonaws.com@evil.example/{PROJECT}/a",
    f"https://{BUCKET}.s3.us-west-2.amazonaws.com:8080/{PROJECT}/a",
    f"https://[::1]/{PROJECT}/a",
    f"https://[::1/{PROJECT}/a",
    f"https://s3.us-west-2.amazonaws.com/evil/{PROJECT}/a",
    f"http://localhost:8333/{BUCKET}/{PROJECT}/a",
    f"https://{BUCKET}.s3x.amazonaws.com/{PROJECT}/a",
    f"https://{BUCKET}.s3.us-west-2.amazonaws.com/a",
    f"https://{BUCKET}.s3.us-west-2.amazonaws.com",
    f"ftp://{BUCKET}.s3.us-west-2.amazonaws.com/{PROJECT}/a",
    f"file:///{PROJECT}/a",
    f"//{BUCKET}.s3.us-west-2.amazonaws.com/{PROJECT}/a",
    f"{PROJECT}/a",
    f"https:\\\\{BUCKET}.s3.us-west-2.amazonaws.com/{PROJECT}/a",
    url_of("a?versionId=b"),
    url_of("a#b"),
]


@pytest.mark.parametrize("url", [*map(url_of, HOSTILE_PATHS), *HOSTILE_URLS])
def test_hostile_addresses_refuse_the_manifest(url: str) -> None:
    """Paths that lead astray and addresses elsewhere are refused; the message names manifest and entry."""
    with pytest.raises(ManifestError) as told:
        parse(with_url(url))
    assert str(told.value).startswith(f"{file_name('1.0.0')}: entry data_files['1']: ")


BAD_TEXTS: list[Any] = [None, 3, "", [], {}, True, 1e400, [url_of("a")]]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        3,
        "text",
        [],
        {},
        {"url": url_of("a")},
        {"version_id": "v"},
        *({"url": url_of("a"), "version_id": value} for value in [*BAD_TEXTS, "a\0b", "a\udc80"]),
        *({"url": value, "version_id": "v"} for value in BAD_TEXTS),
    ],
)
def test_entries_without_text_where_it_belongs(bad: Any) -> None:
    """An entry that is no table, or lacks a text for URL or version id, refuses the manifest and is named."""
    with pytest.raises(ManifestError, match=r"_v1\.0\.0\.json: entry data_files\['1'\]: "):
        parse(with_entry(bad))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a manifest"),
        (b"<html>", "not a manifest"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "no table 'metadata_files'"),
        (b'{"metadata_files": {}}', "no table 'data_files'"),
        (b'{"metadata_files": [], "data_files": {}}', "no table 'metadata_files'"),
        (b'{"metadata_files": {}, "data_files": "x"}', "no table 'data_files'"),
        (b'{"metadata_files": {}, "data_files": {}', "not a manifest"),
        (b'{"metadata_files": {}, "data_files": {}} x', "not a manifest"),
        (b'{"metadata_files": {}, "data_files": {}, "metadata_files": {}}', "'metadata_files' stands twice"),
        (b'{"metadata_files": {"a": 1, "a": 1}, "data_files": {}}', "'a' stands twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a manifest: .*4300 digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (manifest_json({"a": "1"}).decode().encode("utf-16"), "not a manifest"),
        (b'{"metadata_files": {}, "data_files": {"\xff": {}}}', "not a manifest: .*utf-8"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, reason: str) -> None:
    """Anything but one JSON object with the two tables is refused, under the manifest's name."""
    with pytest.raises(ManifestError, match=reason) as told:
        parse(data)
    assert str(told.value).startswith(file_name("1.0.0"))


def test_nesting_up_to_the_limit_of_recursion_is_an_ordinary_refusal() -> None:
    """However deep an entry nests, the refusal itself does not run out of stack."""
    for depth in (*range(1, 1000, 25), *range(900, 1000)):
        with pytest.raises(ManifestError):
            parse(with_entry(0).replace(b'"1": 0', b'"1": ' + b"[" * depth + b"]" * depth))


def test_messages_are_short_and_printable() -> None:
    """What a manifest brings is shown escaped, and no more of it than fits on a few lines."""
    long = "x" * 1_000_000
    table = document({})
    for bad in (
        with_url(f"https://{long}/a"),
        with_url(f"https://s3.amazonaws.com/{long}/p/a"),
        with_url(["\x1b[31m" + long] * 20),
        json.dumps(table | {"data_files": {long: 0}}).encode(),
        json.dumps(table)[:-1].encode() + f', "{long}": 0, "{long}": 0}}'.encode(),
    ):
        with pytest.raises(ManifestError) as told:
            parse(bad)
        assert len(str(told.value)) < 2000
        assert str(told.value).isprintable()


def test_no_host_takes_long_to_refuse() -> None:
    """A host that is nearly AWS's is refused in one pass; matching it does not try every way to read it."""
    for host in ("s3" + "-a" * 200 + ".evil", "s3" + "-" * 200, "a" + ".s3" * 20_000 + ".amazonaws.con"):
        with pytest.raises(ManifestError, match="another host"):
            parse(with_url(f"https://{host}/p/a"))


def test_a_manifest_that_is_too_large_is_not_parsed() -> None:
    """100 MB are refused by their length: no JSON is read, and next to no memory is taken."""
    data = bytes(100_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError, match="100,000,000 bytes; at most 50,331,648 are taken"):
            parse(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_largest_manifest_is_parsed() -> None:
    """Exactly the greatest length is still taken."""
    data = manifest_json({"a": "1"})
    assert parse(data + b" " * (MAX_MANIFEST_BYTES - len(data))).files
    with pytest.raises(ManifestError, match="at most"):
        parse(data + b" " * (MAX_MANIFEST_BYTES - len(data) + 1))


HOSTILE_MANIFESTS: Final = {
    "empty lists": "b'[' + b'[],' * (14 << 20) + b'1]'",
    "short texts": "b'[' + b'\"aa\",' * (8 << 20) + b'1]'",
    "as many tables as are taken": "b'[' + (b'{},' + b' ' * 61) * 700_000 + b'1]'",
    "as many names as are taken": "b'{' + b','.join(b'\"%058x\":1' % n for n in range(700_000)) + b'}'",
    "wide text": "'[\"\U0001f600'.encode() + b'x' * (11 << 20) + b'\"]'",
    "wide text that is long": "'[\"\U0001f600'.encode() + b'x' * (43 << 20) + b'\"]'",
    "nested": "b'[' * (40 << 20)",
}


@pytest.mark.parametrize("manifest", HOSTILE_MANIFESTS.values(), ids=HOSTILE_MANIFESTS)
def test_what_is_no_manifest_takes_little_memory(manifest: str) -> None:
    """Whatever stands under a manifest's name, reading it takes no more than seven times its bytes, and 200 MiB."""
    script = f"""
import resource
from vbnfs.dataset.manifest import Origin, parse_manifest
from vbnfs.errors import ManifestError
data = {manifest}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse_manifest(data, file_name="x_manifest_v1.json", modified_ns=0, origin=Origin("b"))
except ManifestError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(data) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    grown_kib, length_kib = map(int, done.stdout.split())
    assert grown_kib < min(7 * length_kib, 200 << 10)


def test_the_smallest_entries_are_taken() -> None:
    """However many files a manifest has, and however short their names are, it is not too dense."""
    table = document({f"{number:x}": "1" for number in range(20_000)})
    data = json.dumps(table, separators=(",", ":")).encode()
    assert len(parse(data).files) == 20_000


def test_the_same_path_twice() -> None:
    """Two entries for one place refuse the manifest, even with the same hash, and from both sections."""
    table = document({"a/b": "1"})
    table["metadata_files"]["again"] = table["data_files"]["0"]
    with pytest.raises(ManifestError, match=r"v1\.0\.0\.json: 'a/b' stands twice"):
        parse(json.dumps(table).encode())


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b/c/d/e"), ("a/b/c/d", "a/b")])
def test_a_file_that_is_also_a_folder(paths: tuple[str, str]) -> None:
    """A file below another file refuses the manifest, whichever comes first and however far below."""
    with pytest.raises(ManifestError, match="is a file and also the folder of"):
        parse(manifest_json(dict.fromkeys(paths, "1")))


@pytest.mark.parametrize("below", ["", "/x", "/x/y"])
def test_the_manifests_own_place_is_taken(below: str) -> None:
    """No entry may stand where the manifest itself stands in its version's folder, nor below it."""
    with pytest.raises(ManifestError, match="takes the manifest's own name"):
        parse(manifest_json({file_name("1.0.0") + below: "1"}))
    assert parse(manifest_json({file_name("2.0.0") + below: "1"})).files


# Rules for all inputs

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
hostile_values = json_values | st.sampled_from([url_of(path) for path in HOSTILE_PATHS] + HOSTILE_URLS)


def check_outcome(data: bytes) -> None:
    """Nothing but a `ManifestError`, or a manifest of safe paths."""
    try:
        parsed = parse(data)
    except ManifestError:
        return
    check_safe(parsed)


def check_safe(parsed: Manifest) -> None:
    assert len({file.path for file in parsed.files}) == len(parsed.files)
    for file in parsed.files:
        assert file.path
        assert split_path("/".join(file.path)) == file.path
        assert file.version.key.endswith("/" + "/".join(file.path))
        assert file.version.version_id


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_and_any_json(data: bytes) -> None:
    """Arbitrary bytes and arbitrary JSON are refused as a manifest, and in no other way."""
    check_outcome(data)


@st.composite
def mutated_documents(draw: st.DrawFn) -> bytes:
    table: Any = copy.deepcopy(document({"a.csv": "1", "s/1/x.nwb": "2", "s/2/y.nwb": "3"}))
    for _ in range(draw(st.integers(1, 3))):
        place = table
        while True:
            keys = list(place) if isinstance(place, dict) else []
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(place[key], dict) or draw(st.integers(0, 3)) == 0:
                place[key] = draw(hostile_values | st.text().map(url_of))
                break
            place = place[key]
    return json.dumps(table).encode()


@given(mutated_documents())
def test_good_manifests_with_something_changed(data: bytes) -> None:
    """A good manifest with parts replaced by anything is read with safe paths, or refused as a manifest."""
    check_outcome(data)


@given(st.lists(st.text(), max_size=4).map("/".join))
def test_paths_of_any_text(path: str) -> None:
    """Whatever text stands as a path: what is taken has no `..`, no empty part, no control character."""
    check_outcome(with_url(url_of(path)))


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
