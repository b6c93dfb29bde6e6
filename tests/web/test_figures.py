"""What figures say, of numbers that are known."""

import re

import numpy as np
import pytest

from vbnfs.web.figures import lfp_figure, rounded, running_figure, unit_figures, waveform_figure

CHANGES = np.array([10.0, 20.0, 30.0])


def test_spikes_around_changes() -> None:
    """A raster has a row for each change; the rate is in bins of 20 ms, and words and the table say the same."""
    spikes = np.sort(np.concatenate([CHANGES + 0.11, CHANGES + 0.111, CHANGES - 0.3, [15.0]]))
    raster, psth = unit_figures(7, spikes, CHANGES)
    assert raster.is_points
    assert len(raster.x) == 9
    assert raster.drawn["x_range"] == psth.drawn["x_range"] == (-0.5, 1.0)  # one time stands below the other
    assert list(raster.x) == sorted(one for one in raster.x if one is not None)
    assert set(raster.series[0].values) == {1.0, 2.0, 3.0}
    assert len(psth.x) == 75
    rates = dict(zip(psth.x, psth.series[0].values, strict=True))
    assert rates[0.11] == 100.0  # two spikes of each change in 20 ms
    assert "2.0 spikes a second in the half second before them, 10.0" in psth.words
    assert "most, 100.0, at +110 ms" in psth.words
    assert psth.rows == list(zip(psth.x, psth.series[0].values, strict=True))


def test_a_raster_of_many_spikes_leaves_out_whole_changes() -> None:
    """What is drawn stays small; the rate is that of all spikes."""
    changes = np.arange(10.0, 410.0, 2.0)
    raster, psth = unit_figures(7, np.arange(0, 420, 0.01), changes)
    assert 0 < len(raster.x) <= 6_000
    assert re.search("One change in [56] is shown", raster.words)
    per_row = np.unique(raster.series[0].values, return_counts=True)[1]
    assert per_row.min() >= 149
    assert "around 200 changes" in psth.words


def test_a_unit_without_changes_or_spikes() -> None:
    """The rate over the session is shown instead; no spike at all is no error."""
    [figure] = unit_figures(7, np.arange(0, 100, 0.5), np.empty(0))
    assert figure.series[0].values[5] == pytest.approx(2.0, abs=0.1)
    for changes in (CHANGES, np.empty(0)):
        assert unit_figures(7, np.empty(0), changes)


def test_the_table_of_a_figure() -> None:
    """It has all values, of few hundred; else some that are evenly chosen."""
    speeds = np.arange(1000.0)
    for count, rows, step in ((300, 300, 1), (301, 38, 8), (1000, 40, 25)):
        figure = running_figure(np.arange(count) / 10, speeds[:count])
        assert [row[1] for row in figure.rows] == list(speeds[:count:step])
        assert len(figure.rows) == rows


def test_a_mean_waveform() -> None:
    """Its largest channel and those beside it are drawn, and named in words."""
    waveform = np.zeros((82, 20))
    waveform[20, 12], waveform[30, 12] = -90.0, 30.0
    figure = waveform_figure(3, waveform)
    assert [one.label for one in figure.series] == [f"Channel {number}" for number in (8, 10, 12, 14, 16)]
    assert "largest on channel 12, 120 µV" in figure.words
    assert "lowest at 0.67 ms" in figure.words


def test_running_speed() -> None:
    """A long recording is drawn as means."""
    figure = running_figure(np.arange(5_000) / 60, np.r_[np.zeros(2_500), np.full(2_500, 30.0)])
    assert len(figure.x) == 1_000
    assert (figure.series[0].values[0], figure.series[0].values[-1]) == (0.0, 30.0)
    assert "in 50% of them" in figure.words
    assert running_figure(np.empty(0), np.empty(0)).x == []


def test_lfp() -> None:
    """Channels stand above each other without their means, and words name the largest and the smallest."""
    wave = np.sin(np.arange(1_000) / 20)
    volts = np.stack([1e-4 * wave + 1, 2e-5 * wave], axis=1)
    figure = lfp_figure(np.arange(1_000) / 1250, volts, [0, 8])
    assert "200 µV apart" in figure.words
    assert "largest on channel 0" in figure.words
    values = np.array(figure.series[1].values, dtype=float)
    assert values.mean() == pytest.approx(200, abs=1)


def test_numbers_that_are_none() -> None:
    """JSON has no numbers that are not finite."""
    assert rounded(np.array([1.23456, np.nan, np.inf])) == [1.2346, None, None]


def test_values_that_are_not_there_change_no_others() -> None:
    """What is NaN or infinite is left out of means, heights and words; where nothing is there, nothing is drawn."""
    speeds = np.r_[np.full(2_000, 30.0), np.full(2_000, np.nan)]
    speeds[1], speeds[3] = np.nan, np.inf
    figure = running_figure(np.arange(4_000) / 60, speeds)
    assert (figure.series[0].values[0], figure.series[0].values[-1]) == (30.0, None)
    assert "4,000 samples, 2,002 of them without a value; in 100% of the others" in figure.words
    assert "is 30 cm/s" in figure.words
    assert running_figure(np.arange(9.0), np.full(9, np.nan)).series[0].values == [None] * 9

    waveform = np.zeros((82, 20))
    waveform[20, 12], waveform[:, 3], waveform[5, 12] = -90.0, np.nan, np.inf
    assert "largest on channel 12, 90 µV" in waveform_figure(3, waveform).words

    volts = np.stack([1e-4 * np.sin(np.arange(1_000) / 20), np.full(1_000, np.nan)], axis=1)
    volts[7, 0] = np.nan
    figure = lfp_figure(np.arange(1_000) / 1250, volts, [0, 8])
    assert "200 µV apart" in figure.words
    assert "largest on channel 0 (standard deviation 7" in figure.words
    assert figure.series[1].values == [None] * 1_000


def test_spikes_in_no_order() -> None:
    """Spikes are drawn by their times, however they are stored; those without a time are left out."""
    spikes = np.array([30.11, np.nan, 10.11, 20.11, -5.0, np.inf])
    assert unit_figures(7, spikes, CHANGES) == unit_figures(7, np.array([-5.0, 10.11, 20.11, 30.11]), CHANGES)
    [figure] = unit_figures(7, spikes, np.empty(0))
    assert "4 spikes in 30 s" in figure.words
    assert unit_figures(7, np.array([-5.0]), np.empty(0))
