"""What a person may have meant by a name that there is not."""

import pytest

from vbnfs.suggestions import hint, near, near_paths


@pytest.mark.parametrize(
    ("name", "names", "nearest"),
    [
        ("mout", ["mount", "umount", "verify"], ["mount", "umount"]),
        ("0.5", ["0.4.0", "0.5.0"], ["0.5.0"]),
        ("UNITS", ["units", "probes"], ["units"]),
        ("level", ["experience_level", "sex"], ["experience_level"]),
        ("xyz", ["units"], []),
        ("", ["units"], []),
    ],
)
def test_names_that_are_near(name: str, names: list[str], nearest: list[str]) -> None:
    """Names with few other letters come first, then those that contain it; letters' case plays no part."""
    assert near(name, names)[: len(nearest) or 1] == nearest


def test_the_end_of_a_message() -> None:
    """The nearest names end a message; where none is near, nothing does."""
    assert hint("unitid", ["unit_id", "sex"]) == "; near it: unit_id"
    assert hint("xyz", ["unit_id"]) == ""


def test_paths_that_are_near() -> None:
    """Of paths the last part counts: the same in other folders, else one that is near it."""
    paths = ["a/units.csv", "b/units.csv", "b/probes.csv"]
    assert near_paths("c/units.csv", paths) == ["a/units.csv", "b/units.csv"]
    assert near_paths("probe.csv", paths) == ["b/probes.csv"]
    assert near_paths("x", paths) == []
