"""Reading manifests that are damaged, or made to do harm: what is refused, and with which words."""

import copy
import json
import subprocess
import sys
import tracemalloc
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.build import (
    BUCKET,
    PROJECT,
    document,
    file_name,
    manifest_json,
    parse,
    url_of,
    with_entry,
    with_url,
)
from vbnfs.dataset.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
)
from vbnfs.dataset.names import split_path
from vbnfs.errors import ManifestError

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
    with pytest.raises(ManifestError) as caught:
        parse(with_url(url))
    assert str(caught.value).startswith(f"{file_name('1.0.0')}: entry data_files['1']: ")


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
    with pytest.raises(ManifestError, match=reason) as caught:
        parse(data)
    assert str(caught.value).startswith(file_name("1.0.0"))


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
        with pytest.raises(ManifestError) as caught:
            parse(bad)
        assert len(str(caught.value)) < 2000
        assert str(caught.value).isprintable()


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
