"""Figures of a quick look, as values: what is drawn, what it says in words, and the same as a table (pure).

Arrays are of one dimension unless it is said otherwise; times are in seconds, waveforms and LFP in microvolts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BEFORE_SECONDS: Final = 0.5  # a change
AFTER_SECONDS: Final = 1.0
_AROUND: Final = (-BEFORE_SECONDS, AFTER_SECONDS)  # of raster and rate, so that one time stands below the other
_BIN_SECONDS: Final = 0.02
_MOST_POINTS: Final = 6_000  # of a raster
_MOST_BINS: Final = 1_000  # of a long recording
_ALL_ROWS: Final = 300  # a figure of so many values has a row for each in its table
_MOST_ROWS: Final = 40  # of the table of one that has more
_RESPONSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Series:
    """Values at each x; None: there is none at this one."""

    label: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Figure:
    """What is drawn. `words` say what it shows; `is_points`: points, else lines; `x_range`: at first; None: all."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float | None]
    series: Sequence[Series]
    words: str
    is_points: bool = False
    x_range: tuple[float, float] | None = None

    @property
    def drawn(self) -> dict[str, Any]:
        """What the script that draws it takes, as JSON."""
        return {
            "x": self.x,
            "series": [{"label": one.label, "values": one.values} for one in self.series],
            "x_label": self.x_label,
            "y_label": self.y_label,
            "is_points": self.is_points,
            "x_range": self.x_range,
        }

    @property
    def rows(self) -> list[tuple[float | None, ...]]:
        """The figure as a table: x, then a column for each series; of many values some rows, evenly chosen."""
        step = 1 if len(self.x) <= _ALL_ROWS else -(-len(self.x) // _MOST_ROWS)
        columns = [self.x, *(one.values for one in self.series)]
        return [tuple(column[at] for column in columns) for at in range(0, len(self.x), step)]


def unit_figures(unit: int, spikes: Floats, changes: Floats) -> list[Figure]:
    """A unit's spikes around changes of the stimulus: a raster, and the rate in bins of 20 ms."""
    spikes = np.sort(spikes[np.isfinite(spikes)])
    if not len(changes):
        return [_rate_over_time(unit, spikes)]
    relative, trials = _around(spikes, changes)
    edges = np.linspace(-BEFORE_SECONDS, AFTER_SECONDS, round((BEFORE_SECONDS + AFTER_SECONDS) / _BIN_SECONDS) + 1)
    counts, _ = np.histogram(relative, edges)
    rates = counts / (len(changes) * _BIN_SECONDS)
    middles = (edges[:-1] + edges[1:]) / 2
    is_before, is_after = middles < 0, (middles >= 0) & (middles < _RESPONSE_SECONDS)
    peak = int(np.argmax(rates))
    around = f"{len(changes):,} change{'' if len(changes) == 1 else 's'}"
    words = (
        f"Unit {unit} around {around} of the stimulus: {rates[is_before].mean():.1f} spikes a second"
        f" in the half second before them, {rates[is_after].mean():.1f} in the fifth of a second after; most,"
        f" {rates[peak]:.1f}, at {1000 * middles[peak]:+.0f} ms."
    )
    time = "Time from the change (s)"
    series = [Series("Rate", rounded(rates, 2))]
    psth = Figure("Rate", time, "Spikes a second", rounded(middles), series, words, x_range=_AROUND)
    return [_raster(relative, trials, time), psth]


def _around(spikes: Floats, changes: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Times of spikes relative to each change near them, and the number of that change."""
    first = np.searchsorted(spikes, changes - BEFORE_SECONDS)
    last = np.searchsorted(spikes, changes + AFTER_SECONDS)
    relative = [spikes[a:b] - change for a, b, change in zip(first, last, changes, strict=True)]
    trials = np.repeat(np.arange(len(changes)), last - first)
    return np.concatenate(relative) if relative else np.empty(0), trials


def _raster(relative: Floats, trials: npt.NDArray[np.int64], time: str) -> Figure:
    step = max(1, -(-len(relative) // _MOST_POINTS))
    kept = trials % step == 0  # whole changes are left out, so that no row is thinner than it was
    relative, trials = relative[kept], trials[kept]
    order = np.argsort(relative, kind="stable")
    shown = f" One change in {step} is shown." if step > 1 else ""
    words = f"{len(relative):,} spikes, a row for each change.{shown}"
    series = [Series("Change", [float(one) + 1 for one in trials[order]])]
    return Figure("Spikes", time, "Change", rounded(relative[order]), series, words, is_points=True, x_range=_AROUND)


def _rate_over_time(unit: int, spikes: Floats) -> Figure:
    """Of a file that says nothing of changes: the rate over the session."""
    stop = max(0.0, float(spikes[-1])) if len(spikes) else 1.0
    counts, edges = np.histogram(spikes, min(_MOST_BINS, max(1, int(stop))), (0.0, stop or 1.0))
    rates = counts / (edges[1] - edges[0])
    words = f"Unit {unit}: {len(spikes):,} spikes in {stop:,.0f} s. The file has no changes of a stimulus."
    series = [Series("Rate", rounded(rates, 2))]
    return Figure("Rate", "Time (s)", "Spikes a second", rounded(edges[:-1]), series, words)


def waveform_figure(unit: int, waveform: Floats, rate: float = 30_000.0) -> Figure:
    """A unit's mean waveform, shape (samples, channels): on its largest channel and those beside it."""
    there = _or_zero(waveform)
    heights = np.ptp(there, axis=0)
    largest = int(np.argmax(heights))
    channels = range(max(0, largest - 4), min(waveform.shape[1], largest + 5), 2)
    times = 1000 * np.arange(len(waveform)) / rate
    series = [Series(f"Channel {channel}", rounded(waveform[:, channel], 2)) for channel in channels]
    words = (
        f"Unit {unit}: its mean waveform is largest on channel {largest}, {heights[largest]:.0f} µV from lowest to"
        f" highest; lowest at {times[int(np.argmin(there[:, largest]))]:.2f} ms."
    )
    return Figure("Mean waveform", "Time (ms)", "Voltage (µV)", rounded(times), series, words)


def running_figure(times: Floats, speeds: Floats) -> Figure:
    """The running speed over the session, in cm/s: means of about a thousandth of it each, of what is finite."""
    step = max(1, -(-len(speeds) // _MOST_BINS))
    starts = np.arange(0, len(speeds), step)
    is_there = np.isfinite(speeds)
    there = speeds[is_there]
    means = _means(speeds, is_there, starts)
    fast = float(np.mean(there > 1)) if len(there) else 0.0
    highest = float(np.nanmax(means)) if len(there) else 0.0
    lacking = f", {len(speeds) - len(there):,} of them without a value" if len(there) < len(speeds) else ""
    words = (
        f"{len(speeds):,} samples{lacking}; in {fast:.0%} of {'the others' if lacking else 'them'} the mouse"
        f" ran faster than 1 cm/s. The highest of the means that are drawn is {highest:.0f} cm/s."
    )
    series = [Series("Speed", rounded(means, 2))]
    return Figure("Running speed", "Time (s)", "Speed (cm/s)", rounded(times[starts], 3), series, words)


def _means(values: Floats, is_there: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]) -> Floats:
    """The mean from each start to the next, of the values that are there; NaN where none is."""
    if not len(values):
        return np.empty(0)
    sums = np.add.reduceat(np.where(is_there, values, 0.0), starts)
    counts = np.add.reduceat(is_there.astype(np.int64), starts)
    found: Floats = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return found


def _or_zero(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0.0)


def lfp_figure(times: Floats, volts: Floats, channels: Sequence[int]) -> Figure:
    """A stretch of LFP in volts, shape (samples, channels): one above the other, as far apart as the widest is."""
    is_there, known = np.isfinite(volts), _or_zero(volts)
    means = known.sum(axis=0) / np.maximum(1, is_there.sum(axis=0))
    values = 1e6 * np.where(is_there, known - means, np.nan)
    flat = _or_zero(values)
    apart = float(np.ceil(np.ptp(flat, axis=0).max() or 1.0))
    series = [
        Series(f"Channel {channel}", rounded(values[:, at] + at * apart, 1)) for at, channel in enumerate(channels)
    ]
    spread = flat.std(axis=0)
    most, least = int(np.argmax(spread)), int(np.argmin(spread))
    words = (
        f"{len(channels)} channels, {apart:,.0f} µV apart, each without its mean. It is largest on channel"
        f" {channels[most]} (standard deviation {spread[most]:.0f} µV), smallest on {channels[least]}"
        f" ({spread[least]:.0f} µV)."
    )
    return Figure("LFP", "Time (s)", "Voltage (µV)", rounded(times, 4), series, words)


def rounded(values: Floats, digits: int = 4) -> list[float | None]:
    """Numbers for JSON, which has none that are not finite."""
    return [float(one) if np.isfinite(one) else None for one in np.round(values, digits)]
