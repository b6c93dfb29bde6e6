"""The works: the rows of the table, each with its unit, and with the limit that it is compared to."""

from typing import Final

from benchmarks.speed.results import Work

CURLS: Final = ("curl", "curl-24")

COLD: Final = Work("cold sequential, 1 session", "MB/s", True, CURLS)
COLD_PROCESSOR: Final = Work("processor time of a cold sequential read", "s/GB", False, CURLS)
AGAIN: Final = Work("again, from the kernel's page cache", "MB/s", True, ("local",))
WARM_DISK: Final = Work("warm sequential, remounted, nothing in memory", "MB/s", True, ("local",))
WARM: Final = Work("warm sequential, remounted, cache files in memory", "MB/s", True, ("zeros",))
RANDOM: Final = Work("warm random 4 KiB over 220 MB, cache files in memory", "reads/s", True)
MANY: Final = Work("16 programs read 16 sessions, cold", "MB/s", True, ("curl",))
FAIRNESS: Final = Work("16 programs: slowest to fastest", "times", True)
SPIKES: Final = Work("one unit's spike times (h5py)", "s", False)
LFP_CHANNEL: Final = Work("10 s of one LFP channel (h5py)", "s", False)
STREAM: Final = Work("1 session from end to end by one program, cold", "MB/s", True)
RANGES: Final = Work("200 ranges of 64 KiB of the session, at random places", "s", False)
WALK: Final = Work("all names, attributes and scalars of the session (h5py)", "s", False, ("local",))
OPEN: Final = Work("pynwb opens the session", "s", False, ("local",))
INSPECTOR: Final = Work("NWB Inspector checks the session", "s", False, ("local",))
SORTING: Final = Work("SpikeInterface: sorting extractor, and one unit's spikes", "s", False, ("local",))
SORTING_MADE: Final = Work("SpikeInterface: sorting extractor", "s", False, ("local",))
RECORDING: Final = Work("SpikeInterface: recording extractor, and a second of LFP", "s", False, ("local",))
RECORDING_MADE: Final = Work("SpikeInterface: recording extractor", "s", False, ("local",))
ALLENSDK: Final = Work("AllenSDK: project, session and LFP", "s", False, ("local",))
ALLENSDK_PROJECT: Final = Work("AllenSDK: project, with five tables", "s", False, ("local",))
ALLENSDK_SESSION: Final = Work("AllenSDK: get_ecephys_session", "s", False, ("local",))
ALLENSDK_LFP: Final = Work("AllenSDK: get_lfp", "s", False, ("local",))
IDLE_P50: Final = Work("4 KiB reads alone: p50", "ms", False)
IDLE_P99: Final = Work("4 KiB reads alone: p99", "ms", False)
LOADED_P50: Final = Work("4 KiB reads beside a bulk read: p50", "ms", False)
LOADED_P99: Final = Work("4 KiB reads beside a bulk read: p99", "ms", False)
LOADED_TO_IDLE_P50: Final = Work("4 KiB reads beside a bulk read: p50, loaded to idle", "times", False)
LOADED: Final = Work("4 KiB reads beside a bulk read: p99, loaded to idle", "times", False)
FIRST_LIST: Final = Work("mount to first ls -l, nothing kept", "s", False)
LIST: Final = Work("mount to first ls -l, again", "s", False)
LIST_ALL: Final = Work("ls -lR of everything, first", "s", False, ("local",))
LIST_ALL_AGAIN: Final = Work("ls -lR of everything, again", "s", False, ("local",))
MEMORY: Final = Work("resident after 16 readers read much", "MB", False)
HUGE: Final = Work("mount to first ls -l with 2 TB cached", "s", False)

WORKS: Final = (
    COLD, COLD_PROCESSOR, AGAIN, WARM_DISK, WARM, RANDOM, MANY, FAIRNESS, SPIKES, LFP_CHANNEL,
    STREAM, RANGES, WALK, OPEN,
    INSPECTOR, SORTING, SORTING_MADE, RECORDING, RECORDING_MADE,
    ALLENSDK, ALLENSDK_PROJECT, ALLENSDK_SESSION, ALLENSDK_LFP,
    IDLE_P50, IDLE_P99, LOADED_P50, LOADED_P99, LOADED_TO_IDLE_P50, LOADED,
    FIRST_LIST, LIST, LIST_ALL, LIST_ALL_AGAIN, MEMORY, HUGE,
)  # fmt: skip
