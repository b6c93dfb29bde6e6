"""Which entries of manifests share a content, and which become one of their own."""

import hashlib
from collections.abc import Mapping
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.build import BUCKET, file_name
from vbnfs.dataset.contents import Contents, contents_of, in_order_of_publication
from vbnfs.dataset.manifest import DataFile, DatasetVersion, Manifest
from vbnfs.objects import EMPTY_HASH, Content, ObjectAttributes, ObjectVersion, may_have_size

H1, H2 = ("1" * 128, "2" * 128)
A, B, C = (ObjectVersion(f"p/{name}", f"id-{name}") for name in "abc")
NULL: Final = ObjectVersion("p/n", "null")

Known = Mapping[ObjectVersion, ObjectAttributes]


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def manifest(version: str, *entries: tuple[ObjectVersion, str | None], modified_ns: int = 0) -> Manifest:
    files = tuple(DataFile((f"{number}",), source, file_hash) for number, (source, file_hash) in enumerate(entries))
    return Manifest(file_name(version), DatasetVersion(version), b"", modified_ns, files)


def contents(*manifests: Manifest, known: Known | None = None) -> Contents:
    return contents_of(manifests, bucket=BUCKET, attributes=(known or {}).get)


def sized(size_bytes: int, etag: str | None = None) -> ObjectAttributes:
    return ObjectAttributes(size_bytes, 0, etag)


def ids(found: Contents) -> dict[tuple[ObjectVersion, str | None], str]:
    return {entry: content.content_id for entry, content in found.by_entry.items()}


def test_equal_hashes_are_one_content_with_all_their_sources() -> None:
    """Entries with one hash, of which nothing more is known, are one content; the first one is shown."""
    found = contents(manifest("1.0.0", (A, H1)), manifest("2.0.0", (B, H1), (C, H2)))
    assert found.by_entry[A, H1] is found.by_entry[B, H1]
    assert found.by_entry[A, H1].sources == (A, B)
    assert found.by_entry[C, H2].sources == (C,)
    assert found.contradictions == ()


def test_entries_without_a_hash_share_nothing() -> None:
    """What has no hash is named by its version."""
    found = contents(manifest("1.0.0", (A, None), (B, None)))
    assert len({*ids(found).values()}) == 2


def test_another_size_is_another_content() -> None:
    """An entry whose object has another size than that of an earlier one is a content of its own, and is named."""
    found = contents(
        manifest("1.0.0", (A, H1)), manifest("2.0.0", (B, H1), (C, H1)), known={A: sized(4), B: sized(5), C: sized(4)}
    )
    assert found.by_entry[A, H1].sources == (A, C)
    assert found.by_entry[B, H1].sources == (B,)
    assert found.by_entry[B, H1].content_id != found.by_entry[A, H1].content_id
    [contradiction] = found.contradictions
    assert contradiction.startswith(f"{file_name('2.0.0')}: '0': 5 bytes, not 4, unlike p/a")


def test_another_md5_is_another_content() -> None:
    """Objects of one size whose ETags are MD5s, and differ, are different bytes, whatever hash they are given."""
    known = {A: sized(4, md5("a")), B: sized(4, md5("b")), C: sized(4, md5("a"))}
    found = contents(manifest("1.0.0", (A, H1), (B, H1), (C, H1)), known=known)
    assert found.by_entry[A, H1].sources == (A, C)
    assert found.by_entry[B, H1].sources == (B,)


def test_etags_of_several_parts_contradict_nothing() -> None:
    """The ETag of an object that was uploaded in parts depends on the parts: it says nothing of the bytes."""
    known = {A: sized(4, md5("a") + "-2"), B: sized(4, md5("b") + "-3"), C: sized(4, md5("c"))}
    found = contents(manifest("1.0.0", (A, H1), (B, H1), (C, H1)), known=known)
    assert found.by_entry[A, H1].sources == (A, B, C)


def test_an_object_with_two_hashes_shares_nothing() -> None:
    """One of two entries that give an object different hashes is wrong: no other object stands in for it."""
    found = contents(manifest("1.0.0", (A, H2)), manifest("2.0.0", (A, H1), (B, H2), (C, H2)))
    assert found.by_entry[A, H2].sources == (A,)
    assert found.by_entry[A, H1].sources == (A,)
    assert found.by_entry[B, H2].sources == (B, C)
    assert len({*ids(found).values()}) == 3
    assert "another file_hash" in found.contradictions[0]


def test_a_size_that_the_hash_cannot_have_contradicts_nothing() -> None:
    """An object of no bytes with the hash of some: the listing is doubtful, and no other entry is parted by it."""
    found = contents(manifest("1.0.0", (A, H1), (B, H1)), known={A: sized(0, EMPTY_HASH[:32]), B: sized(4)})
    assert found.by_entry[A, H1].sources == (A, B)


def test_what_may_be_replaced_is_bound_to_its_etag() -> None:
    """An object without a version id of its own is a content for each ETag, and ranges are asked for under it."""
    before = contents(manifest("1.0.0", (NULL, H1), (A, H1)), known={NULL: sized(4, md5("old"))})
    after = contents(manifest("1.0.0", (NULL, H1), (A, H1)), known={NULL: sized(4, md5("new"))})
    assert before.by_entry[NULL, H1].content_id != after.by_entry[NULL, H1].content_id
    assert before.by_entry[NULL, H1].sources == (NULL,)
    bound = ObjectVersion(NULL.key, "null", md5("old"))
    content = before.by_entry[NULL, H1].with_attributes(sized(4, md5("new")))
    assert content == Content(content.content_id, 4, bound, H1)


def test_who_came_first_is_believed_first() -> None:
    """Not the version's number but the time of publication says which entry stands, and which is parted from it."""
    right = manifest("0.2.0", (A, H1), modified_ns=1)
    backport = manifest("0.1.5", (B, H1), modified_ns=2)
    for known in ({A: sized(4), B: sized(5)}, {}):
        alone = contents(right, known=known)
        both = contents(*in_order_of_publication([backport, right]), known=known)
        assert both.by_entry[A, H1].content_id == alone.by_entry[A, H1].content_id
        assert both.by_entry[A, H1].sources[0] == A


def test_a_hash_that_is_lacking_contradicts_none() -> None:
    """An object of which one manifest gives no hash, and another one does: that is no contradiction."""
    for releases in ([(A, None)], [(A, H1), (B, H1)]), ([(A, H1), (B, H1)], [(A, None)]):
        found = contents(*(manifest(f"{number}.0.0", *table) for number, table in enumerate(releases)))
        assert found.contradictions == ()
        assert found.by_entry[A, H1].sources == (A, B)
        assert found.by_entry[A, None].sources == (A,)


def test_what_came_under_one_etag_is_not_taken_for_what_came_under_another() -> None:
    """An object whose bytes may be replaced, and of which nothing was listed: each answer to HEAD names a content.

    It is the same one where the ETag is known from the beginning.
    """
    unlisted = contents(manifest("1.0.0", (NULL, H1))).by_entry[NULL, H1]
    old, new = (unlisted.with_attributes(sized(4, md5(text))) for text in ("old", "new"))
    assert old.content_id != new.content_id
    for content, text in ((old, "old"), (new, "new")):
        known = {NULL: sized(4, md5(text))}
        assert (
            contents(manifest("1.0.0", (NULL, H1)), known=known).by_entry[NULL, H1].with_attributes(known[NULL])
            == content
        )


facts = st.one_of(
    st.none(), st.builds(sized, st.sampled_from([0, 4, 5]), st.sampled_from([None, "", md5("a"), md5("b"), "x-2"]))
)
entries = st.tuples(st.sampled_from([A, B, C, NULL]), st.sampled_from([H1, H2, EMPTY_HASH, None]))
releases = st.lists(st.lists(entries, max_size=4), min_size=1, max_size=4)


@given(releases, st.fixed_dictionaries(dict.fromkeys((A, B, C, NULL), facts)))
def test_a_later_manifest_changes_nothing_that_was_there(
    tables: list[list[tuple[ObjectVersion, str | None]]], known: dict[ObjectVersion, ObjectAttributes | None]
) -> None:
    """Whatever a later manifest says, an earlier entry keeps its content and its sources; it may gain sources."""
    manifests = [manifest(f"{number}.0.0", *table) for number, table in enumerate(tables)]
    attributes = {version: facts for version, facts in known.items() if facts is not None}
    for count in range(1, len(manifests)):
        before = contents(*manifests[:count], known=attributes)
        after = contents(*manifests[: count + 1], known=attributes)
        for entry, content in before.by_entry.items():
            now = after.by_entry[entry]
            assert now.content_id == content.content_id
            assert now.sources[: len(content.sources)] == content.sources


@given(releases, st.fixed_dictionaries(dict.fromkeys((A, B, C, NULL), facts)))
def test_what_shares_a_content_agrees(
    tables: list[list[tuple[ObjectVersion, str | None]]], known: dict[ObjectVersion, ObjectAttributes | None]
) -> None:
    """The sources of a content have one hash, and nothing that is known of two of them differs; ids are unique."""
    manifests = [manifest(f"{number}.0.0", *table) for number, table in enumerate(tables)]
    attributes = {version: facts for version, facts in known.items() if facts is not None}
    found = contents(*manifests, known=attributes)
    by_id = {content.content_id: content for content in found.by_entry.values()}
    for (source, file_hash), content in found.by_entry.items():
        assert by_id[content.content_id] is content
        assert content.file_hash == file_hash
        assert source in content.sources
        known_of = [attributes[source] for source in content.sources if source in attributes]
        plausible = [one for one in known_of if may_have_size(file_hash, one.size_bytes)]
        assert len({a.size_bytes for a in plausible}) <= 1
        assert len({a.etag for a in plausible if a.etag in {md5("a"), md5("b")}}) <= 1


@given(releases, releases, st.fixed_dictionaries(dict.fromkeys((A, B, C, NULL), facts)))
def test_a_name_means_the_same_whatever_manifests_there_are(
    before: list[list[tuple[ObjectVersion, str | None]]],
    after: list[list[tuple[ObjectVersion, str | None]]],
    known: dict[ObjectVersion, ObjectAttributes | None],
) -> None:
    """Manifests are withdrawn, uploaded again, published: one id never stands for other hashes or first sources."""
    attributes = {version: facts for version, facts in known.items() if facts is not None}
    meaning: dict[str, tuple[ObjectVersion, str | None]] = {}
    for tables in (before, after):
        manifests = [manifest(f"{number}.0.0", *table) for number, table in enumerate(tables)]
        for content in contents(*manifests, known=attributes).by_entry.values():
            means = content.sources[0], content.file_hash
            assert meaning.setdefault(content.content_id, means) == means
