"""A program: jobs of `import vbnfs` on another system, whose results it writes as JSON.

    python -m tests.portable.jobs SYSTEM PROCESSES JOB ENDPOINT CACHE [FULL]

`guide` also reads a file by a cache on the disk FULL, which has no room for it.

Modules of vbnfs are imported when the process has become such a system.
"""

import hashlib
import io
import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.portable.systems import become, is_one_of

if TYPE_CHECKING:
    import vbnfs

SESSION: Final = "behavior_ecephys_sessions/7/ecephys_session_7.nwb"
LFP: Final = "behavior_ecephys_sessions/7/probe_probeA_lfp.nwb"
UNITS: Final = "project_metadata/units.csv"
SESSIONS: Final = "project_metadata/ecephys_sessions.csv"
NEED_MOUNTS: Final = ("mount", "doctor", "top")
PLACES: Final = [(number * 600_011, 3_000) for number in range(9)]


def read(dataset: "vbnfs.Dataset") -> str:
    """All bytes of the LFP, through the cache, by four threads; then their hash."""
    file = dataset.file(LFP)
    step, opened = 100_000, file.open()
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda at: opened.read_at(at, step), range(0, file.size, step)))
    return hashlib.blake2b(b"".join(parts)).hexdigest()


def fetch(dataset: "vbnfs.Dataset") -> str:
    """The LFP fetched as a whole."""
    dataset.file(LFP).prefetch()
    return "fetched"


def crash(dataset: "vbnfs.Dataset") -> object:
    """A process fetches a file, whose id is written, and which is killed; then two others read the file at once."""
    victim, _ = _begin(fetch, dataset)
    print(victim, flush=True)
    sys.stdin.readline()
    readers = [_begin(read, dataset)[1] for _ in range(2)]
    found = []
    for pipe in readers:
        with open(pipe, encoding="utf-8") as file:
            found.append(file.read())
    return found


def _begin(job: Callable[["vbnfs.Dataset"], str], dataset: "vbnfs.Dataset") -> tuple[int, int]:
    """Do it in a process of its own, forked since a new one would import all anew: its id, and a pipe for its result.

    That stands for three processes; vbnfs itself forks none.
    """
    ours, its = os.pipe()
    if (process := os.fork()) == 0:
        is_one_of(Path(sys.argv[2]))
        with dataset:
            os.write(its, job(dataset).encode())
        os._exit(0)
    os.close(its)
    return process, ours


def guide(dataset: "vbnfs.Dataset") -> object:
    """What docs/python.md shows: versions, tables, a session's arrays, ranges, files fetched ahead, then offline."""
    first = _jobs(dataset)
    dataset.close()
    config = dataset.config
    with type(dataset)(endpoint_url=config.endpoint_url, cache_dir=config.cache_dir, offline=True) as at:
        found = {"cold": first, "offline": _jobs(at), "refused": _refusal(at)}
    if full := sys.argv[6:]:
        with type(dataset)(endpoint_url=config.endpoint_url, cache_dir=full[0]) as at:
            found["full"] = read(at)
    return found | {"modules": [name for name in sys.modules if name.startswith("vbnfs.")]}


def _jobs(dataset: "vbnfs.Dataset") -> object:
    version = dataset.latest
    session = version.session(7)
    lfp = session.lfp("probeA")
    lfp.prefetch()
    with session.h5() as h5:
        spikes = h5["units/spike_times"][:5].tolist()
    again = pickle.loads(pickle.dumps(dataset.file(LFP).open()))
    return {
        "versions": list(dataset.versions),
        "units": version.units["snr"].tolist(),
        "found": version.find("units", "snr > 1", having={"sessions": "experience_level == 'Novel'"}).shape[0],
        "spikes": spikes,
        "ranges": [hashlib.blake2b(part).hexdigest() for part in again.read_ranges(PLACES)],
        "is_whole": (lfp.cached_bytes == lfp.size, lfp.local_path is not None),
        "names": sorted(path.name for path in Path(dataset.config.cache_dir).rglob("*")),
    }


def _refusal(offline: "vbnfs.Dataset") -> str:
    try:
        offline.version("0.1.0").file("behavior_ecephys_sessions/8/ecephys_session_8.nwb").read_bytes()
    except OSError as error:
        return type(error).__name__
    return "none"


def commands(dataset: "vbnfs.Dataset") -> object:
    """The commands that need no mount: each with its exit status, and the lines that it wrote."""
    from vbnfs.cli.main import cli  # noqa: PLC0415

    every = {
        "versions": ["versions"],
        "tables": ["tables", "units"],
        "sessions": ["sessions", "--query", "experience_level == 'Novel'"],
        "units": ["units", "--query", "snr > 2"],
        "diff": ["diff", "0.1.0", "0.2.0"],
        "urls": ["urls"],
        "pin": ["pin", "mine", LFP],
        "pins": ["pins"],
        "verify": ["verify", LFP],
        "du": ["du"],
        "tree": ["tree", SESSION],
        "map": ["map", SESSION],
        "cite": ["cite", "--sessions", "experience_level == 'Novel'"],
        "unpin": ["unpin", "mine"],
        "clean": ["clean", "--cache-size", "1M"],
        "settings": ["settings"],
        "status": ["status", "--json"],
        "--help": ["--help"],
    }
    if sys.argv[1] != "linux":
        every |= {name: [name] for name in NEED_MOUNTS}
    dataset.close()
    return {name: _command(cli, words) for name, words in every.items()}


def _command(cli: Any, words: list[str]) -> list[object]:
    text = io.StringIO()
    try:
        with redirect_stdout(text), redirect_stderr(io.StringIO()):
            cli.main(words, prog_name="vbnfs", standalone_mode=False)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["done", text.getvalue()]


JOBS: Final[Mapping[str, Callable[["vbnfs.Dataset"], object]]] = {
    function.__name__: function for function in (crash, guide, commands)
}


def main() -> None:
    """Do a job."""
    system, processes, job, endpoint, cache = sys.argv[1:6]
    assert system in {"linux", "darwin", "win32"}
    if system != "linux":
        become(system, processes=Path(processes))  # type: ignore[arg-type]
    import vbnfs  # noqa: PLC0415

    with vbnfs.Dataset(endpoint_url=endpoint, cache_dir=cache) as dataset:
        print(json.dumps(JOBS[job](dataset)))


if __name__ == "__main__":
    main()
