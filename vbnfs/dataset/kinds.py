"""Which files of a dataset version are of which kind, and of which session, by their names (pure).

    project_metadata/units.csv                                              a table
    behavior_ecephys_sessions/<id>/ecephys_session_<id>.nwb                 a session, in any folder
    behavior_ecephys_sessions/<id>/probe_probeA_lfp.nwb                     the LFP of one of its probes
    behavior_only_sessions/<id>/behavior_session_<id>.nwb                   a session without recordings

These are the names of Visual Behavior Neuropixels in all of its versions; files of other names are of no kind.
"""

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

SESSION: Final = "sessions"
LFP: Final = "LFP"
BEHAVIOR: Final = "behavior-only"
TABLE: Final = "tables"
OTHER: Final = "other"
KINDS: Final = (SESSION, LFP, BEHAVIOR, TABLE, OTHER)

_SESSION_NAME: Final = re.compile(r"ecephys_session_(\d+)\.nwb")
_BEHAVIOR_NAME: Final = re.compile(r"behavior_session_(\d+)\.nwb")
_LFP_NAME: Final = re.compile(r"probe_(?:probe)?(\w+?)_lfp\.nwb", re.IGNORECASE)
_TABLES: Final = "project_metadata"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is: one of `KINDS`. `session_id` is None where it is of no session, `probe` where it is no LFP."""

    kind: str
    session_id: int | None = None
    probe: str | None = None


def kind_of(path: Iterable[str]) -> Kind:
    """The kind of the file at a path: of a dataset version, or with any folders above that."""
    *folders, name = path
    if match := _SESSION_NAME.fullmatch(name):
        return Kind(SESSION, int(match[1]))
    if match := _BEHAVIOR_NAME.fullmatch(name):
        return Kind(BEHAVIOR, int(match[1]))
    if match := _LFP_NAME.fullmatch(name):
        session = folders[-1] if folders else ""
        return Kind(LFP, int(session) if session.isascii() and session.isdigit() else None, match[1].upper())
    return Kind(TABLE if folders[-1:] == [_TABLES] or name.endswith(".csv") else OTHER)


@dataclass(frozen=True, slots=True)
class WantedLfp:
    """Which LFP files are wanted: of these `probes` (in capitals), or None for all."""

    probes: Set[str] | None = frozenset()

    @classmethod
    def parse(cls, text: str) -> "WantedLfp":
        """`yes`, `no`, or probes as in `A,B` or `probeA`. Raises `ValueError`."""
        if text in {"yes", "no"}:
            return cls(None if text == "yes" else frozenset())
        names = [one.strip().lower().removeprefix("probe").upper() for one in text.split(",")]
        if not all(name.isalnum() for name in names):
            raise ValueError("'yes', 'no', or probes, as in A,B")
        return cls(frozenset(names))

    def has(self, kind: Kind) -> bool:
        """Whether a file of this kind is wanted as far as LFP goes."""
        return kind.kind != LFP or self.probes is None or kind.probe in self.probes
