"""The size of a demo release: every number that determines sizes and times, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class ReleaseScale:
    """Counts, durations and shapes of a release; the defaults make about 190 MB of files for a dataset version.

    Sessions have `probes` and `probes - 1` probes (at least one) in turn. `behavior_sessions` is the number of
    behavior-only files in each dataset version that has any. `template_shape` is the (height, width) in pixels of a
    stimulus image. A probe's LFP is cut to its first `lfp_seconds`, unlike a real one.
    """

    ecephys_sessions: int = 3
    behavior_sessions: int = 3
    probes: int = 3
    channels_per_probe: int = 384
    units_per_session: int = 44
    spikes_per_unit: int = 25_000
    session_seconds: int = 600
    lfp_channels: int = 96
    lfp_seconds: int = 20
    template_shape: tuple[int, int] = (120, 192)

    @classmethod
    def tiny(cls) -> Self:
        """Files of a few hundred kilobytes, made in a few seconds: for tests."""
        return cls(
            ecephys_sessions=2,
            probes=2,
            channels_per_probe=24,
            units_per_session=6,
            spikes_per_unit=400,
            session_seconds=60,
            lfp_channels=6,
            lfp_seconds=4,
            template_shape=(12, 16),
        )

    @classmethod
    def real_session(cls) -> Self:
        """One session like a small real one: about 1 GB, 1,700 units on six probes; and no behavior-only files."""
        return cls(
            ecephys_sessions=1,
            behavior_sessions=0,
            probes=6,
            units_per_session=1700,
            spikes_per_unit=11_000,
            session_seconds=9000,
            template_shape=(1200, 1920),
        )
