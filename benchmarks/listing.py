"""What listing everything costs: `ls -lR` of five versions of the real release's list of 4,298 files.

    .venv/bin/python -m benchmarks.listing [RUNS]

Prints, as medians of RUNS (default 3): seconds of `ls -lR` after the first mount, again in the same mount, after a
remount, and of a local tree with the same names (the floor); where the seconds go; and requests to S3. The server is
the tests' own, on loopback.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.dataset.real_list import BUCKET, PROJECT, RELEASES, real_file_name, real_manifest_json
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import MemoryStore, Pattern


def main(runs: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, FakeS3Server(make_store()) as server:
        place = Path(name)
        (place / "mnt").mkdir()
        rows: dict[str, list[float]] = {}
        for run in range(runs):
            measure(place, run, server, rows)
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
        for label, values in rows.items():
            print(f"{label:<48} {statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})")


def make_store() -> MemoryStore:
    """The five versions' objects and manifests."""
    store = MemoryStore(BUCKET)
    known: set[tuple[str, str]] = set()
    for version in RELEASES:
        document = json.loads(real_manifest_json(version))
        for entry in [*document["metadata_files"].values(), *document["data_files"].values()]:
            identity = (entry["url"].partition(".com/")[2], entry["version_id"])
            if identity not in known:
                known.add(identity)
                store.put(identity[0], Pattern(int(entry["file_hash"][:7], 16)), version_id=identity[1])
        store.put(f"{PROJECT}/manifests/{real_file_name(version)}", real_manifest_json(version))
    return store


def measure(place: Path, run: int, server: FakeS3Server, rows: dict[str, list[float]]) -> None:
    """One mount with an empty cache, and a remount."""

    def note(label: str, value: float) -> None:
        rows.setdefault(label, []).append(value)

    options = ["--endpoint-url", server.endpoint_url, "--cache-dir", str(place / f"cache-{run}")]
    options += ["--log-file", str(place / "log")]
    server.forget_requests()
    note("mount, first ever: s", timed("mount", *options, str(place / "mnt")))
    pid = int(status(place)["pid"])
    before = processor_seconds(pid)
    note("ls -lR, first: s", list_all(place / "mnt"))
    note("ls -lR, first: the daemon's processor time, s", processor_seconds(pid) - before)
    note("requests to S3 until here", server.count())
    server.forget_requests()
    note("ls -lR, again: s", list_all(place / "mnt"))
    if not (place / "local").exists():
        subprocess.run(["cp", "-r", "--attributes-only", place / "mnt", place / "local"], check=True)
    timed("umount", str(place / "mnt"))
    note("mount, again: s", timed("mount", *options, str(place / "mnt")))
    note("ls -lR, remounted: s", list_all(place / "mnt"))
    note("requests to S3 since", server.count())
    timed("umount", str(place / "mnt"))
    note("ls -lR of the same tree on the local disk: s", list_all(place / "local"))


def timed(*arguments: str) -> float:
    """Run vbnfs; the seconds that it took."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "vbnfs", *arguments], check=True)
    return time.monotonic() - begun


def list_all(path: Path) -> float:
    """The seconds of `ls -lR`."""
    begun = time.monotonic()
    subprocess.run(["ls", "-lR", path], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begun


def status(place: Path) -> dict[str, Any]:
    """What `vbnfs status` says."""
    done = subprocess.run(
        [sys.executable, "-m", "vbnfs", "status", "--json", place / "mnt"], check=True, capture_output=True
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
