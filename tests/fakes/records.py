"""A record as a mount writes it, of files of a `FakeDataset`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fakes.dataset import FakeDataset
from tests.fakes.store import Data
from vbnfs.dataset.read_records import MountLine, OpenLine, line_of
from vbnfs.objects import ObjectVersion
from vbnfs.spans import Spans

TIMES = ("2026-11-28T04:00:00Z", "2026-11-30T05:00:00Z")


def write_record(
    path: Path,
    dataset: FakeDataset,
    files: Mapping[str, Data],
    ranges: Mapping[str, Sequence[tuple[int, int]]],
    versions: Sequence[str],
) -> Path:
    """Write that of each file these ranges were read, in a mount with the last of the versions at its top."""
    mount = MountLine("m1", TIMES[0], dataset.store.bucket, dataset.project, versions[-1], "1.0")
    lines = [line_of(mount.as_json())]
    for number, (name, pairs) in enumerate(ranges.items()):
        entry = dataset.entry(name, files[name])
        line = OpenLine(
            mount=mount.mount,
            open_number=number,
            version=ObjectVersion(f"{dataset.project}/{name}", entry["version_id"]),
            file_hash=entry["file_hash"],
            size_bytes=len(files[name]),
            dataset_versions=tuple(versions),
            program="python3",
            opened=TIMES[0],
            read=TIMES[1] if pairs else None,
            ranges=Spans(pairs),
        )
        lines.append(line_of(line.as_json()))
    path.write_bytes(b"".join(lines))
    return path
