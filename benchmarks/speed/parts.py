"""The parts of the whole benchmark. Each ends within half an hour, and their results add up to one table (pure)."""

from dataclasses import dataclass
from typing import Final

from benchmarks.speed.origin import PLAIN, PROFILES, TLS
from benchmarks.speed.release import NAME as RELEASE
from benchmarks.speed.results import DEFAULT_SHAPE
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.systems.registry import BY_FSSPEC, IN_PYTHON, INDEXED, SYSTEMS

Place = tuple[str, str]  # profile, transport


@dataclass(frozen=True, slots=True)
class Part:
    """Courses, in places, with files of one shape; `systems` come besides vbnfs."""

    name: str
    about: str
    courses: tuple[str, ...]
    places: tuple[Place, ...]
    shape: str = DEFAULT_SHAPE
    systems: tuple[str, ...] = tuple(SYSTEMS)
    runs: int = 3


MOUNTS: Final = ("rclone", "rclone-tuned", "s3fs")
STREAMS: Final = ("mountpoint-client", "awscrt", "boto3")
OPENERS: Final = (INDEXED, "rclone", "remfile", "lindi", "s3fs", "local")
FSSPECS: Final = ("fsspec", "s3fs-python")  # a minute to open a session that others open in seconds
ANALYSERS: Final = (INDEXED, "rclone", "remfile", "local")
# Without a mount. What measures these alone stands in a part of its own.
ALONE: Final = (IN_PYTHON, BY_FSSPEC, "fsspec-blockcache", "s3fs-python", "obstore", "h5coro")
WITHOUT_A_MOUNT: Final = (*ALONE, "remfile", "lindi")
READERS: Final = tuple(name for name in SYSTEMS if name not in ALONE)
SDKS: Final = (INDEXED, "allensdk", "local")
LISTERS: Final = ("rclone", "s3fs", "local")
LAN_TLS: Final[Place] = ("lan", TLS)
NEAR_TLS: Final[Place] = ("near", TLS)
HOME_TLS: Final[Place] = ("home", TLS)
ALL_TLS: Final[tuple[Place, ...]] = tuple((profile.name, TLS) for profile in PROFILES)
_READERS: Final = ("spikes", "lfp", "open")
_ALL_OF_IT: Final = ("sequential", *_READERS)

_SEQUENTIAL: Final = tuple(
    Part(
        f"{profile.name}-{transport}",
        f"one session from end to end, cold and cached: {profile.name}, {transport}",
        ("sequential",),
        ((profile.name, transport),),
    )
    for profile in PROFILES
    for transport in (TLS, PLAIN)
)
_MANY: Final = tuple(
    Part(f"many-{place[0]}", f"sixteen programs read sixteen sessions: {place[0]}, {place[1]}", ("many",), (place,))
    for place in ALL_TLS
)

PARTS: Final = {
    part.name: part
    for part in (
        *_SEQUENTIAL,
        Part("readers", "spike times, LFP and pynwb: near and home", _READERS, (NEAR_TLS, HOME_TLS), systems=READERS),
        Part(
            "opening",
            "a session's structure, by h5py and pynwb: home",
            ("walk", "open"),
            (HOME_TLS,),
            systems=OPENERS,
            runs=5,
        ),
        Part(
            "opening-fsspec",
            "the same by fsspec and Python's s3fs, beside vbnfs alone: home",
            ("walk", "open"),
            (HOME_TLS,),
            systems=FSSPECS,
        ),
        Part(
            "python",
            "Python without a mount: opening, a unit, a channel, sequential, ranges: near",
            ("open", "spikes", "lfp", "stream", "ranges"),
            (NEAR_TLS,),
            systems=WITHOUT_A_MOUNT,
        ),
        Part(
            "analyses",
            "NWB Inspector and SpikeInterface: home",
            ("inspector", "sorting", "recording"),
            (HOME_TLS,),
            systems=ANALYSERS,
            runs=5,
        ),
        Part(
            "allensdk",
            "AllenSDK on a mount, and its own download: home",
            ("allensdk",),
            (HOME_TLS,),
            systems=SDKS,
            runs=5,
        ),
        *_MANY,
        Part("small-reads", "small reads beside a bulk read: all profiles", ("interactive",), ALL_TLS),
        Part("starting", "first mount, and with 2 TB cached: near", ("listing", "huge"), (NEAR_TLS,)),
        Part("everything", "ls -lR of the real release's list: lan", ("everything",), (LAN_TLS,), RELEASE, LISTERS),
        # A round trip or two for each of 4,000 folders: minutes for one run.
        Part("everything-near", "the same: near", ("everything",), (NEAR_TLS,), RELEASE, LISTERS, runs=1),
        Part("memory", "what is resident after sixteen readers: near", ("memory",), (NEAR_TLS,)),
        Part("shape-chunked", f"{SHAPES['chunked'].about}: near", _ALL_OF_IT, (NEAR_TLS,), "chunked", READERS),
        Part("shape-small", f"{SHAPES['small'].about}: near", _ALL_OF_IT, (NEAR_TLS,), "small", READERS, runs=2),
        Part(
            "shape-large",
            "a session of 3 GB from end to end: near",
            ("sequential",),
            (NEAR_TLS,),
            "large",
            (*MOUNTS, *STREAMS, "curl", "curl-24", "zeros", "local"),
        ),
        Part(
            "shape-large-readers",
            "opening a session of 3 GB: near",
            ("spikes", "open"),
            (NEAR_TLS,),
            "large",
            READERS,
        ),
    )
}
