"""The behavior of a mouse: the part that sessions with and without probes have in common.

`add_behavior` adds the task as the real files have it: running, licks, rewards, the times of the stimulus's frames,
trials, the images and when they were shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pynwb import NWBFile
from pynwb.epoch import TimeIntervals

from vbnfs.demo.extensions import extension_type
from vbnfs.demo.nwb import STIMULUS_FRAME_RATE, Floats, Ragged, columns, ragged, series

_IMAGES = {  # by the letter in a session's `image_set`; a mouse is trained with G, and H is new to it
    "G": ("im012_r", "im036_r", "im044_r", "im047_r", "im078_r", "im083_r", "im111_r", "im115_r"),
    "H": ("im005_r", "im024_r", "im034_r", "im083_r", "im087_r", "im104_r", "im111_r", "im114_r"),
}

_FRAME_SECONDS = 1 / STIMULUS_FRAME_RATE
_FLASH_SECONDS = 0.75  # an image for 0.25 s, then grey for 0.5 s
_SHOWN_SECONDS = 0.25
_TRIAL_FLASHES = 11


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One change detection task: its flashes, and what the mouse did. Times in seconds from the session's start."""

    seconds: float
    image_set: str  # a key of _IMAGES
    flash_times: Floats
    images: npt.NDArray[np.int64]  # of each flash, into `names`
    is_change: npt.NDArray[np.bool_]
    lick_times: Floats
    hit: npt.NDArray[np.bool_]  # of each change

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images."""
        return _IMAGES[self.image_set]

    @property
    def stimulus(self) -> str:
        """The name of the set of images."""
        return f"Natural_Images_Lum_Matched_set_ophys_{self.image_set}_2019"


def draw_task(random: np.random.Generator, seconds: float, image_set: str) -> Task:
    """Draw a task of `seconds`: the image changes once in eleven flashes, and the mouse licks at most of these."""
    count = max(2 * _TRIAL_FLASHES, int(seconds / _FLASH_SECONDS))
    trials = count // _TRIAL_FLASHES
    changes = np.arange(trials) * _TRIAL_FLASHES + random.integers(4, _TRIAL_FLASHES, size=trials)
    is_change = np.zeros(count, dtype=bool)
    is_change[changes] = True
    images = (np.cumsum(is_change) * 3 + int(random.integers(8))) % len(_IMAGES[image_set])
    flash_times = np.arange(count) * _FLASH_SECONDS + random.normal(0, 2e-4, size=count)
    hit: npt.NDArray[np.bool_] = random.random(trials) < 0.6
    licks = flash_times[changes[hit], None] + 0.35 + 0.12 * np.arange(5)
    return Task(
        seconds, image_set, flash_times, images, is_change, np.asarray(licks.ravel(), np.float64).round(5), hit
    )


def add_behavior(
    file: NWBFile, task: Task, random: np.random.Generator, template_shape: tuple[int, int], reward_volume: float
) -> None:
    """Put the task and everything measured of the mouse in `file`. `reward_volume` is in ml."""
    frames = np.arange(0.0, task.seconds, _FRAME_SECONDS)
    _add_running(file, frames, random)
    _add_licks_and_rewards(file, task, reward_volume)
    file.trials = _trials(task, reward_volume)
    file.add_time_intervals(_image_presentations(task))
    file.add_stimulus_template(_template(task, random, template_shape))
    file.add_lab_meta_data(_parameters(task, file.lab_meta_data["metadata"].session_type, reward_volume, frames.size))


def _parameters(task: Task, session_type: str, reward_volume: float, frames: int) -> Any:
    """The parameters of the task: change detection with images."""
    return extension_type("BehaviorTaskParameters")(
        name="task_parameters",
        auto_reward_volume=reward_volume,
        blank_duration_sec=np.array(["0.5", "0.5"]),
        n_stimulus_frames=frames,
        omitted_flash_fraction=0.05,
        response_window_sec=np.array(["0.15", "0.75"]),
        reward_volume=reward_volume,
        session_type=session_type,
        stimulus="images",
        stimulus_distribution="geometric",
        stimulus_duration_sec=_SHOWN_SECONDS,
        stimulus_name=task.stimulus,
        task="change detection",
    )


def _add_running(file: NWBFile, frames: Floats, random: np.random.Generator) -> None:
    """Add the wheel's voltages as they were acquired, the speed, and when each frame of the stimulus was shown."""
    speed = np.round(20 + 15 * np.sin(frames / 40) + random.normal(0, 2, size=frames.size), 4)
    turns = np.cumsum(speed) * _FRAME_SECONDS / 50
    v_sig = series("v_sig", np.round(5 * (turns % 1), 5), "V", frames)
    file.add_acquisition(v_sig)
    file.add_acquisition(series("v_in", np.round(random.normal(4.99, 0.003, size=frames.size), 5), "V", v_sig))
    running = file.create_processing_module("running", "Running speed processing module")
    filtered = series("speed", np.round(np.convolve(speed, np.ones(9) / 9, mode="same"), 4), "cm/s", frames)
    running.add(filtered)
    running.add(series("speed_unfiltered", speed, "cm/s", filtered))
    running.add(series("dx", np.round(np.diff(turns, prepend=0) * 360, 5), "degrees", filtered))
    stimulus = file.create_processing_module("stimulus", "Stimulus Times processing")
    stimulus.add(series("timestamps", frames, "s", frames))


def _add_licks_and_rewards(file: NWBFile, task: Task, reward_volume: float) -> None:
    licking = file.create_processing_module("licking", "Licking behavior processing module")
    licking.add(series("licks", np.arange(task.lick_times.size), "lick", task.lick_times))
    rewards = file.create_processing_module("rewards", "Rewards processing module")
    times = _reward_times(task)
    volume = series("volume", np.full(times.size, reward_volume), "mL", times)
    rewards.add(volume)
    rewards.add(series("autorewarded", np.arange(times.size) < 2, "mL", volume))


def _reward_times(task: Task) -> Floats:
    return task.flash_times[task.is_change][task.hit] + 0.4


def _trials(task: Task, reward_volume: float) -> TimeIntervals:
    """Make the table of trials: one for each change, from four flashes before it to the next trial."""
    changes = np.flatnonzero(task.is_change)
    start = task.flash_times[np.arange(changes.size) * _TRIAL_FLASHES]
    stop = np.append(start[1:], task.seconds)
    go = np.arange(changes.size) % 8 != 7
    change_time = task.flash_times[changes]
    response = np.where(task.hit, change_time + 0.35, np.nan)
    values = {
        "start_time": start,
        "stop_time": stop,
        "initial_image_name": [task.names[image] for image in task.images[changes - 1]],
        "change_image_name": [task.names[image] for image in task.images[changes]],
        "stimulus_change": go,
        "change_time_no_display_delay": change_time,
        "change_frame": np.round(change_time / _FRAME_SECONDS).astype(np.int64),
        "go": go,
        "catch": ~go,
        "lick_times": _cut(task.lick_times, stop),
        "response_time": response,
        "response_latency": response - change_time,
        "reward_time": np.where(task.hit & go, change_time + 0.4, np.nan),
        "reward_volume": np.where(task.hit & go, reward_volume, 0.0),
        "hit": go & task.hit,
        "miss": go & ~task.hit,
        "false_alarm": ~go & task.hit,
        "correct_reject": ~go & ~task.hit,
        "aborted": np.zeros(changes.size, dtype=bool),
        "auto_rewarded": np.arange(changes.size) < 2,
        "trial_length": stop - start,
    }
    return TimeIntervals(name="trials", description="behavioral trials", columns=columns(values))


def _cut(times: Floats, stops: Floats) -> Ragged:
    """Cut ascending `times` into rows that end at `stops`."""
    return Ragged(times, np.searchsorted(times, stops))


def _image_presentations(task: Task) -> TimeIntervals:
    count = task.flash_times.size
    names = [task.names[image] for image in task.images]
    since = np.arange(count) - np.maximum.accumulate(np.where(task.is_change, np.arange(count), 0))
    start_frame = np.round(task.flash_times / _FRAME_SECONDS).astype(np.int64)
    return presentations(
        task.stimulus,
        task.flash_times,
        _SHOWN_SECONDS,
        block=0,
        image_name=names,
        image_set=[task.stimulus] * count,
        start_frame=start_frame,
        end_frame=start_frame + 15,
        # Booleans that other stimuli lack are numbers in the real files, since AllenSDK fills the gaps with NaN.
        is_change=task.is_change.astype(np.float64),
        is_image_novel=np.array([name not in _IMAGES["G"] for name in names], np.float64),
        is_sham_change=np.zeros(count),
        flashes_since_change=since,
        omitted=np.zeros(count),
        rewarded=np.isin(np.arange(count), np.flatnonzero(task.is_change)[task.hit]).astype(np.float64),
        trials_id=np.minimum(np.arange(count) // _TRIAL_FLASHES, np.count_nonzero(task.is_change) - 1),
    )


def presentations(stimulus: str, starts: Floats, shown_seconds: float, *, block: int, **more: Any) -> TimeIntervals:
    """Make the table `<stimulus>_presentations`; `more` holds the columns that only this stimulus has."""
    count = starts.size
    values = {
        "start_time": starts,
        "stop_time": starts + shown_seconds,
        "stimulus_name": [stimulus] * count,
        "stimulus_block": np.full(count, block),
        "stimulus_index": np.arange(count),
        "duration": np.full(count, shown_seconds),
        "active": np.full(count, block == 0),
        **more,
        "tags": ragged(["stimulus_time_interval"] * count, np.ones(count, dtype=np.int64)),
    }
    return TimeIntervals(
        name=f"{stimulus}_presentations",
        description="Presentation times and stimuli details",
        columns=columns(values),
    )


def _template(task: Task, random: np.random.Generator, shape: tuple[int, int]) -> Any:
    """Make the images as they were computed (f8) and as the monitor warped them (u8)."""
    pictures = np.round(random.normal(127, 40, size=(len(task.names), *shape)).clip(0, 255), 3)
    return extension_type("StimulusTemplate")(
        name=task.stimulus,
        data=np.roll(pictures, 3, axis=2).astype(np.uint8),
        unwarped=pictures,
        control=np.arange(len(task.names), dtype=np.uint8),
        control_description=list(task.names),
        unit="NA",
        format="raw",
        timestamps=np.full(len(task.names), np.nan),
        description="images shown to the mouse",
    )
