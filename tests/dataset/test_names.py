"""Names that a manifest may, and may not, bring into the file system."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.dataset.names import MAX_PATH_BYTES, MAX_PATH_PARTS, check_name, check_printable, split_path

HOSTILE = {
    "": "empty",
    "/a": "empty",
    "a/": "empty",
    "a//b": "empty",
    ".": "'.'",
    "..": r"'\.\.'",
    "a/../b": r"'\.\.'",
    "a/./b": r"'\.'",
    "a\0b": r"U\+0000",
    "a\nb": r"U\+000A",
    "a\x7fb": r"U\+007F",
    "a\x85b": r"U\+0085",
    "a\u202eb": r"U\+202E",
    "a\u2066b": r"U\+2066",
    "a\u200bb": r"U\+200B",
    "a\ufeffb": r"U\+FEFF",
    "a\u2028b": r"U\+2028",
    "a\udc80b": r"U\+DC80",
    "\x1b[31m": r"U\+001B",
    "a" * 256: "name longer than 255 bytes",
    "é" * 128: "name longer than 255 bytes",
    "/".join(["b" * 200] * 20): "path longer than 4000 bytes",
    "/".join("b" * 65): "more than 64 parts",
}
GOOD = {
    "a.csv": ("a.csv",),
    "a/b/c.nwb": ("a", "b", "c.nwb"),
    "...": ("...",),
    "..a/.b": ("..a", ".b"),
    "a b%20c": ("a b%20c",),
    "-rf": ("-rf",),
    "Größe/日本": ("Größe", "日本"),
    "a" * 255: ("a" * 255,),
    "é" * 127: ("é" * 127,),
}


@pytest.mark.parametrize(("path", "reason"), HOSTILE.items())
def test_hostile_paths_are_refused(path: str, reason: str) -> None:
    """A path that could lead a tool astray is refused, and the message names the fault."""
    with pytest.raises(ValueError, match=reason):
        split_path(path)


@pytest.mark.parametrize(("path", "parts"), GOOD.items())
def test_plain_paths_are_taken(path: str, parts: tuple[str, ...]) -> None:
    """Letters of any script, blanks, dashes and dots within a name are allowed, and nothing is decoded."""
    assert split_path(path) == parts


def test_path_limits_are_inclusive() -> None:
    """A path of exactly as many bytes, and of exactly as many parts, as allowed is taken."""
    assert len(split_path("/".join("b" * MAX_PATH_PARTS))) == MAX_PATH_PARTS
    longest = "/".join(["b" * 250] * 15)
    longest += "/" + "b" * (MAX_PATH_BYTES - len(longest) - 1)
    assert len(longest) == MAX_PATH_BYTES
    assert "/".join(split_path(longest)) == longest


def test_a_name_has_no_slash() -> None:
    """What is to be one name cannot bring a folder along."""
    with pytest.raises(ValueError, match="slash"):
        check_name("a/b")


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))))
def test_printable_text_is_taken(text: str) -> None:
    """No text without control, format, surrogate and line-end characters is refused as unprintable."""
    check_printable(text)


@given(st.text(), st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp")), st.text())
def test_one_unprintable_character_is_enough(before: str, character: str, after: str) -> None:
    """One such character anywhere refuses the text."""
    with pytest.raises(ValueError, match="unprintable"):
        check_printable(before + character + after)


@given(st.text() | st.lists(st.sampled_from(["", ".", "..", "a", "é" * 200, "\0"])).map("/".join))
def test_accepted_paths_are_safe(text: str) -> None:
    """Whatever is taken is the same text again, in parts that each can stand in a folder."""
    try:
        parts = split_path(text)
    except ValueError:
        return
    assert "/".join(parts) == text
    assert not {"", ".", ".."} & set(parts)
    assert all(len(part.encode()) <= 255 and "\0" not in part for part in parts)
