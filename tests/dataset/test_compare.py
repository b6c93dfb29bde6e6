"""Two dataset versions compared: every file once, and AllenSDK's text to the letter."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.build import BUCKET, Files, entry, file_name, hash_of, manifest, parse
from vbnfs.dataset.compare import Comparison, Kind, allensdk_text, compare
from vbnfs.dataset.manifest import Manifest
from vbnfs.errors import ManifestError

# Few names and few contents, so that everything happens: several files with one content, swaps, chains.
FILES = st.dictionaries(st.sampled_from(["a.csv", "b.csv", "x/1", "x/2", "x/3", "y/1"]), st.sampled_from("pqr"))


def compared(old: Files, new: Files) -> Comparison:
    return compare(manifest("1.0.0", old), manifest("2.0.0", new), bucket=BUCKET)


def summary(comparison: Comparison) -> list[tuple[str, str | None, str | None]]:
    """What happened, from which place to which, of the files that are not the same."""
    return [
        (change.kind.value, change.old and "/".join(change.old.path), change.new and "/".join(change.new.path))
        for change in comparison.changes
    ]


def of_kind(comparison: Comparison, *kinds: Kind) -> int:
    return sum(file.kind in kinds for file in comparison.files)


def contents(which: Manifest) -> dict[tuple[str, ...], str]:
    return {file.path: file.content_id(BUCKET) for file in which.files}


# What happened to each file


def test_what_can_happen() -> None:
    """A file is the same, changed, renamed, created or deleted; the latter are reported in this order."""
    old = {"same": "s", "x/changed": "1", "x/gone": "g", "x/moved": "m"}
    new = {"same": "s", "x/changed": "2", "x/come": "c", "y/moved": "m"}
    assert summary(compared(old, new)) == [
        ("changed", "x/changed", "x/changed"),
        ("renamed", "x/moved", "y/moved"),
        ("created", None, "x/come"),
        ("deleted", "x/gone", None),
    ]
    assert [file.place for file in compared(old, new).files][-1] == ("same",)


def test_a_copy_is_created() -> None:
    """A second name for bytes that keep their first one is created, not renamed, and so is the first of two."""
    assert summary(compared({"a": "1"}, {"a": "1", "b": "1"})) == [("created", None, "b")]
    assert summary(compared({"a": "1"}, {"b": "1", "c": "1"})) == [("renamed", "a", "b"), ("created", None, "c")]


def test_files_that_swap_their_bytes_are_changed() -> None:
    """What stands at the same place in both is changed, whatever else has its bytes."""
    swapped = compared({"a": "1", "b": "2"}, {"a": "2", "b": "1"})
    assert summary(swapped) == [("changed", "a", "a"), ("changed", "b", "b")]


def test_without_a_hash_the_object_version_tells() -> None:
    """Files without a usable file_hash are the same if key and version id are."""

    def version(number: str, version_id: str) -> Manifest:
        files = {"1": entry("x/1") | {"file_hash": "none", "version_id": version_id}}
        return parse(json.dumps({"metadata_files": {}, "data_files": files}).encode(), version=number)

    old = version("1.0.0", "v1")
    assert summary(compare(old, version("2.0.0", "v1"), bucket=BUCKET)) == []
    assert summary(compare(old, version("2.0.0", "v2"), bucket=BUCKET)) == [("changed", "x/1", "x/1")]


def test_a_table_is_what_both_call_metadata() -> None:
    """A file that is metadata in one version and data in the other is no table."""
    tables = compared({"a.csv": "1", "x/1": "1"}, {"a.csv": "2", "b.csv": "3", "x/1": "2"})
    assert [(change.place, change.is_table) for change in tables.changes] == [
        (("a.csv",), True),
        (("x", "1"), False),
        (("b.csv",), True),
    ]
    moved = parse(json.dumps({"metadata_files": {}, "data_files": {"1": entry("a.csv", "2")}}).encode())
    [change] = compare(manifest("1.0.0", {"a.csv": "1"}), moved, bucket=BUCKET).changes
    assert (change.kind, change.is_table) == (Kind.CHANGED, False)


@given(FILES, FILES)
def test_the_changes_lead_from_old_to_new(old: Files, new: Files) -> None:
    """Taking away what is old in each change and putting what is new makes the new version of the old one."""
    comparison = compared(old, new)
    made = contents(comparison.old)
    for change in comparison.changes:
        if change.old is not None:
            del made[change.old.path]
    made.update({c.new.path: c.new.content_id(BUCKET) for c in comparison.changes if c.new is not None})
    assert made == contents(comparison.new)


@given(FILES, FILES)
def test_every_file_is_reported_once(old: Files, new: Files) -> None:
    """Each file of each version stands in one change, or is the same in both."""
    files = compared(old, new).files
    assert sorted("/".join(file.old.path) for file in files if file.old) == sorted(old)
    assert sorted("/".join(file.new.path) for file in files if file.new) == sorted(new)


@given(FILES, FILES)
def test_no_renaming_is_missed(old: Files, new: Files) -> None:
    """No bytes are both deleted and created; a file is called renamed, changed or same by its bytes and place."""
    comparison = compared(old, new)
    by_kind = {kind: [file for file in comparison.files if file.kind is kind] for kind in Kind}
    gone = {file.old.content_id(BUCKET) for file in by_kind[Kind.DELETED] if file.old}
    assert gone.isdisjoint(file.new.content_id(BUCKET) for file in by_kind[Kind.CREATED] if file.new)
    for kind, is_same_place, is_same_content in (
        (Kind.SAME, True, True),
        (Kind.CHANGED, True, False),
        (Kind.RENAMED, False, True),
    ):
        for file in by_kind[kind]:
            assert file.old is not None
            assert file.new is not None
            assert (file.old.path == file.new.path) is is_same_place
            assert (file.old.content_id(BUCKET) == file.new.content_id(BUCKET)) is is_same_content


@given(FILES, FILES)
def test_the_way_back_is_the_mirror(old: Files, new: Files) -> None:
    """From new to old the same happens the other way round: created for deleted, and as many of the others."""
    there, back = compared(old, new), compared(new, old)
    assert of_kind(there, Kind.CREATED) == of_kind(back, Kind.DELETED)
    for kind in (Kind.SAME, Kind.CHANGED, Kind.RENAMED):
        assert of_kind(there, kind) == of_kind(back, kind)
    assert compared(old, old).changes == ()


# AllenSDK's text. AllenSDK 2.16.2's compare_manifests gives the same for all of these.


def text(old: Files, new: Files) -> str:
    return allensdk_text(manifest("1.0.0", old), manifest("2.0.0", new))


def of_entries(version: str, data_files: Mapping[str, Any]) -> Manifest:
    return parse(json.dumps({"metadata_files": {}, "data_files": data_files}).encode(), version=version)


HEAD = f"Changes going from\n{file_name('1.0.0')}\nto\n{file_name('2.0.0')}\n\n"


def test_allensdk_layout() -> None:
    """A head with the manifests' names, the metadata's lines by name, then the data's by name."""
    old = {"x/changed": "1", "x/gone": "g", "a/moved": "m", "z.csv": "1", "b.csv": "b"}
    new = {"x/changed": "2", "x/come": "c", "y/moved": "m", "z.csv": "2", "c.csv": "1"}
    assert text(old, new) == HEAD + (
        "b.csv deleted\nz.csv changed\na/moved renamed y/moved\nx/changed changed\nx/come created\nx/gone deleted\n"
    )  # c.csv is not created: the old version has its hash


def test_allensdk_of_equal_versions() -> None:
    """Without changes the text is a sentence without a line end."""
    assert text({"a": "1"}, {"a": "1"}) == "The two manifests are equivalent"


def test_allensdk_does_not_tell_of_copies() -> None:
    """A new name for a hash that the old version has is not reported, so the versions are 'equivalent'."""
    assert text({"a": "1"}, {"a": "1", "b": "1"}) == "The two manifests are equivalent"


def test_allensdk_renames_to_the_last_key_as_text() -> None:
    """Of several names with one hash the one whose key is the last as text is the target, of all renamings."""
    old = of_entries("1.0.0", {"1": entry("a"), "2": entry("b")})
    new = of_entries("2.0.0", {"9": entry("by 9"), "10": entry("by 10"), "100": entry("by 100")})
    assert allensdk_text(old, new) == f"{HEAD}a renamed by 9\nb renamed by 9\n"


def test_allensdk_compares_metadata_and_data_apart() -> None:
    """What moves from the metadata to the data is deleted there and created here."""
    new = of_entries("2.0.0", {"1": entry("a.csv", "1")})
    assert allensdk_text(manifest("1.0.0", {"a.csv": "1"}), new) == f"{HEAD}a.csv deleted\na.csv created\n"


def test_allensdk_compares_hashes_as_text() -> None:
    """Upper case is another hash, and a placeholder is one like any other."""
    lower, upper = hash_of("1"), hash_of("1").upper()
    old = of_entries("1.0.0", {"1": entry("a") | {"file_hash": lower}, "2": entry("b") | {"file_hash": "none"}})
    new = of_entries("2.0.0", {"1": entry("a") | {"file_hash": upper}, "2": entry("c") | {"file_hash": "none"}})
    assert allensdk_text(old, new) == f"{HEAD}a changed\nb renamed c\n"


def test_allensdk_cuts_names_at_a_semicolon() -> None:
    """AllenSDK takes what follows a semicolon in the last part of a URL for parameters, not for the name."""
    assert text({}, {"x/a;1": "1", "x/b%20;": "2"}) == f"{HEAD}x/a created\nx/b%20 created\n"


def test_allensdk_needs_hashes() -> None:
    """An entry without file_hash, on which AllenSDK fails, is named."""
    bare = {name: value for name, value in entry("a").items() if name != "file_hash"}
    with pytest.raises(ManifestError, match=r"v2\.0\.0\.json: entry '7' has no file_hash"):
        allensdk_text(manifest("1.0.0", {}), of_entries("2.0.0", {"7": bare}))
