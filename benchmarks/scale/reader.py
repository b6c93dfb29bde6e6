"""A client's program: it opens sessions, reads spikes and LFP, and says what it found, a line for each course.

    python reader.py        reads a line of JSON from standard input for each course: [[session, LFP], ...]

It answers {"seconds": ..., "digest": ..., "steps": {...}}, or {"error": ...}; the digest is of all that it read.
A session without LFP is opened, and no more.
"""

import hashlib
import json
import sys
import time

import h5py

UNITS = range(0, 60, 6)
LFP_SAMPLES = 12_500  # ten seconds
CHANNEL = 5


def walk(group, digest):
    """Every object by its name, with its attributes, as a program does that opens a session."""
    for name in group:
        digest.update(name.encode())
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            item = group[name]
            digest.update(str(sorted(item.attrs)).encode())
            if isinstance(item, h5py.Group):
                walk(item, digest)
            elif item.shape == ():
                digest.update(str(item[()]).encode())


def spikes(file, digest):
    """The spike times of some units."""
    index = file["units/spike_times_index"]
    for unit in UNITS:
        if unit + 1 < len(index):
            digest.update(file["units/spike_times"][index[unit] : index[unit + 1]].tobytes())


def lfp(path, digest):
    """Ten seconds of a channel."""
    with h5py.File(path, "r") as file:
        probe = next(iter(file["acquisition"].values()))
        series = next(item for item in probe.values() if "data" in item)
        digest.update(series["data"][:LFP_SAMPLES, CHANNEL].tobytes())


def course(sessions):
    """Read all of them; the seconds of each kind of work, and a digest of what was read."""
    digest, steps = hashlib.blake2b(), {"open": 0.0, "spikes": 0.0, "lfp": 0.0}
    for session, *probes in sessions:
        began = time.monotonic()
        with h5py.File(session, "r") as file:
            walk(file, digest)
            steps["open"] += (opened := time.monotonic()) - began
            if probes:
                spikes(file, digest)
        steps["spikes"] += (read := time.monotonic()) - opened
        for probe in probes:
            lfp(probe, digest)
        steps["lfp"] += time.monotonic() - read
    return {"seconds": sum(steps.values()), "digest": digest.hexdigest(), "steps": steps}


def main():
    """Answer each line."""
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer = course(json.loads(line))
        except (OSError, ValueError, KeyError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
