"""Quick looks into a session's or a probe's file: which there are, and what can be asked of each (pure)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.web.figures import Figure

UNIT: Final = "unit"
WAVEFORM: Final = "waveform"
RUNNING: Final = "running"
LFP: Final = "lfp"
TITLES: Final[Mapping[str, str]] = {
    UNIT: "A unit's spikes around changes of the stimulus",
    WAVEFORM: "A unit's mean waveform",
    RUNNING: "Running speed",
    LFP: "A stretch of LFP",
}
_LONGEST_SECONDS: Final = 5.0  # of LFP
RUNNING_SPEED: Final = "/processing/running/speed"
_NEEDED: Final[Mapping[str, Sequence[str]]] = {
    UNIT: ("/units/id", "/units/spike_times", "/units/spike_times_index"),
    WAVEFORM: ("/units/id", "/units/waveform_mean", "/units/waveform_mean_index"),
    RUNNING: (f"{RUNNING_SPEED}/data", f"{RUNNING_SPEED}/timestamps"),
}


@dataclass(frozen=True, slots=True)
class AskedLook:
    """Which figure is wanted; of which unit (None: the first one), or from which second on, and how many."""

    kind: str
    unit: int | None = None
    start: float = 0.0
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class QuickLook:
    """Figures, and how many bytes came from S3 for them. `units` are those that can be asked for."""

    asked: AskedLook
    figures: Sequence[Figure]
    units: Sequence[int]
    fetched_bytes: int


def offered(paths: Collection[str]) -> list[tuple[str, str]]:
    """The looks into a file that has objects at these paths: kind and title."""
    kinds = [kind for kind, needed in _NEEDED.items() if all(path in paths for path in needed)]
    kinds += [LFP] * any(_is_lfp(path) for path in paths)
    return [(kind, TITLES[kind]) for kind in kinds]


def _is_lfp(path: str) -> bool:
    return path.startswith("/acquisition/") and path.endswith("_lfp_data/data")


def asked_of(query: Mapping[str, str]) -> AskedLook:
    """What an address asks for. Numbers that are none are as if they were not there."""
    kind, unit = query.get("look", ""), query.get("unit", "")
    seconds = min(_number(query.get("seconds"), 1.0), _LONGEST_SECONDS) or 1.0
    is_number = unit.isascii() and unit.isdigit() and len(unit) < 19
    return AskedLook(kind, int(unit) if is_number else None, _number(query.get("start"), 0.0), seconds)


def _number(text: str | None, default: float) -> float:
    try:
        value = float(text or default)
    except ValueError:
        return default
    return value if 0 <= value < 1e7 else default
