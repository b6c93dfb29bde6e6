"""What commands call the tables that are known, and the names that these have (pure)."""

from collections.abc import Mapping
from typing import Final

SESSIONS: Final = "sessions"
# In Visual Behavior Neuropixels, and in Visual Behavior Ophys.
KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "units": ("units",),
    SESSIONS: ("ecephys_sessions", "ophys_session_table", "behavior_session_table"),
    "probes": ("probes",),
    "channels": ("channels",),
}


def short_name(name: str) -> str | None:
    """What commands call a table; None for one that they know by its own name alone."""
    return next((short for short, names in KNOWN.items() if name in names), None)
