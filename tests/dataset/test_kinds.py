"""Which files are of which kind and session, by the names of all real files; and what `--lfp` means."""

import lzma
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from vbnfs.dataset.kinds import BEHAVIOR, LFP, OTHER, SESSION, TABLE, Kind, WantedLfp, kind_of

REAL = Path(__file__).parents[1] / "data" / "vbn-0.4.0-urls.txt.xz"


def real_paths() -> list[tuple[str, ...]]:
    """The places of all files of version 0.4.0."""
    with lzma.open(REAL, "rt") as lines:
        return [tuple(urlsplit(line).path.strip().split("/")[2:]) for line in lines]


def test_all_real_files() -> None:
    """As many of each kind as the release has; all but tables are of a session, and LFP of a probe from A to F."""
    kinds = list(map(kind_of, real_paths()))
    assert Counter(one.kind for one in kinds) == {SESSION: 153, LFP: 869, BEHAVIOR: 3271, TABLE: 5}
    assert all((one.session_id is None) == (one.kind == TABLE) for one in kinds)
    assert {one.probe for one in kinds} == {None, *"ABCDEF"}
    recorded = {one.session_id for one in kinds if one.kind == SESSION}
    assert {one.session_id for one in kinds if one.kind == LFP} <= recorded


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("ecephys_sessions/ecephys_session_12.nwb", Kind(SESSION, 12)),
        ("manifests/v0.5.0/behavior_ecephys_sessions/12/probe_probeC_lfp.nwb", Kind(LFP, 12, "C")),
        ("elsewhere/probe_B_lfp.nwb", Kind(LFP, None, "B")),
        ("project_metadata/units", Kind(TABLE)),
        ("units.csv", Kind(TABLE)),
        ("release_notes.txt", Kind(OTHER)),
        ("ecephys_session_12.nwb.bak", Kind(OTHER)),
    ],
)
def test_names(path: str, kind: Kind) -> None:
    """A name says it, in any folder."""
    assert kind_of(path.split("/")) == kind


@pytest.mark.parametrize(
    ("text", "probes"), [("yes", "ABZ"), ("no", ""), ("A", "A"), ("a, probeB", "AB"), ("probea,Z", "AZ")]
)
def test_lfp_that_is_wanted(text: str, probes: str) -> None:
    """All, none, or of some probes, however they are spelled. What is no LFP is wanted in any case."""
    wanted = WantedLfp.parse(text)
    assert "".join(one for one in "ABZ" if wanted.has(Kind(LFP, 1, one))) == probes
    assert wanted.has(Kind(SESSION, 1))


@pytest.mark.parametrize("text", ["", "A,", "all of it", "A;B"])
def test_lfp_that_is_no_word(text: str) -> None:
    """It is refused."""
    with pytest.raises(ValueError, match="or probes, as in A,B"):
        WantedLfp.parse(text)
