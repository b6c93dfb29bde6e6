"""One program that opens NWB files by itself, in a process of its own: run by the Python that has it.

    python analyses.py JOB LOCATION       prints {"seconds": ..., STEP: ...}, without what importing takes

JOB: inspector (NWB Inspector), sorting and recording (SpikeInterface's extractors), allensdk.
LOCATION: a path. SpikeInterface takes remfile:URL and fsspec:URL, too; AllenSDK a cache_dir, or s3:CACHE_DIR to
download into it.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

SAMPLING_HZ = 30_000.0
TRACE_SAMPLES = 1250  # a second

Job = Callable[[Any, str], Iterator[str]]


def inspector(nwbinspector: Any, location: str) -> Iterator[str]:
    """All checks, and pynwb's validation."""
    list(nwbinspector.inspect_nwbfile(nwbfile_path=location))
    yield "inspected"


def sorting(extractors: Any, location: str) -> Iterator[str]:
    """All units with their properties, and the spikes of one."""
    made = extractors.NwbSortingExtractor(sampling_frequency=SAMPLING_HZ, t_start=0.0, **where(location))
    yield "made"
    assert len(made.get_unit_spike_train(made.unit_ids[0]))
    yield "spikes"


def recording(extractors: Any, location: str) -> Iterator[str]:
    """The LFP with its channels, and a second of all of them."""
    made = extractors.NwbRecordingExtractor(**where(location))
    yield "made"
    assert len(made.get_traces(start_frame=0, end_frame=TRACE_SAMPLES)) == TRACE_SAMPLES
    yield "traces"


def where(location: str) -> dict[str, Any]:
    """SpikeInterface's options for a location (pure)."""
    library, _, address = location.partition(":")
    return {"file_path": address, "stream_mode": library} if address else {"file_path": location}


def allensdk(module: Any, location: str) -> Iterator[str]:
    """The project with its five tables, a session, and the LFP of one probe."""
    cache = module.VisualBehaviorNeuropixelsProjectCache
    is_download = location.startswith("s3:")
    make = cache.from_s3_cache if is_download else cache.from_local_cache
    project = make(cache_dir=location.removeprefix("s3:"))
    yield "project"
    sessions = project.get_ecephys_session_table(filter_abnormalities=False)
    session = project.get_ecephys_session(ecephys_session_id=sessions.index[0])
    yield "session"
    probes = project.get_probe_table()
    assert session.get_lfp(probes.index[probes["has_lfp_data"]][0]).size
    yield "lfp"


JOBS: dict[str, tuple[Job, str]] = {
    "inspector": (inspector, "nwbinspector"),
    "sorting": (sorting, "spikeinterface.extractors.nwbextractors"),
    "recording": (recording, "spikeinterface.extractors.nwbextractors"),
    "allensdk": (allensdk, "allensdk.brain_observatory.behavior.behavior_project_cache"),
}


def main() -> None:
    """Do the job, and print what it and its steps took."""
    job, name = JOBS[sys.argv[1]]
    module = importlib.import_module(name)
    began = before = time.monotonic()
    steps = {}
    for step in job(module, sys.argv[2]):
        now = time.monotonic()
        steps[step], before = now - before, now
    print(json.dumps({"seconds": time.monotonic() - began, **steps}))


if __name__ == "__main__":
    main()
