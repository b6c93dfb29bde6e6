"""What a course's servers were asked, read from their logs; and the site cache's configuration, with a log."""

from pathlib import Path

import pytest

from benchmarks.scale.courses import turned
from benchmarks.scale.faults import damage
from benchmarks.scale.logs import answers, percentile, waits
from benchmarks.scale.servers import SLICE_BYTES, origin_config, with_log
from benchmarks.scale.traces import Request
from benchmarks.speed.files import BUCKET, PROJECT
from tests.fixtures_mount import run_vbnfs

PATH = f"/{BUCKET}/{PROJECT}/sessions/a.nwb"


def test_answers_are_ranges_of_files_in_order_of_their_beginning() -> None:
    """A line bears the end of an answer; lists and other requests are left out."""
    lines = [
        f'10.77.0.4 1000.500 0.100 {PATH} "bytes=0-99" 206 100',
        f'10.77.0.3 1000.600 0.500 {PATH} "bytes=100-1099" 206 1000',
        f'10.77.0.3 1000.700 0.001 /{BUCKET} "-" 200 345',
        f'10.77.0.3 1000.800 0.001 {PATH} "-" 200 100',
    ]
    first, second = answers(lines)
    assert (first.client, first.request.file, first.sent_bytes) == ("10.77.0.3", "sessions/a.nwb", 1000)
    assert first.request == Request("sessions/a.nwb", 100, 1000, pytest.approx(1000.1), 0.5)
    assert (second.client, second.request.stop, second.status) == ("10.77.0.4", 100, 206)
    with pytest.raises(ValueError, match="no line of the log"):
        answers(["nonsense"])


def test_those_wait_that_begin_while_a_slice_is_on_its_way() -> None:
    """Not the request that has it fetched, and none that comes when it is there."""
    fetched = answers([f'10.77.0.2 1001.000 0.500 {PATH} "bytes=0-{SLICE_BYTES - 1}" 206 {SLICE_BYTES}'])
    asked = answers(
        [
            f'10.77.0.3 1001.010 0.511 {PATH} "bytes=0-99" 206 100',  # has it fetched
            f'10.77.0.4 1001.300 0.500 {PATH} "bytes=0-99" 206 100',  # waits
            f'10.77.0.5 1001.310 0.001 {PATH} "bytes=0-99" 206 100',  # finds it
            f'10.77.0.6 1000.900 0.100 {PATH} "bytes={SLICE_BYTES}-{SLICE_BYTES + 9}" 206 10',  # another slice
        ]
    )
    assert waits(asked, fetched, SLICE_BYTES) == [0.5]
    assert (percentile([], 0.5), percentile([3, 1, 2], 0.5), percentile([3, 1, 2], 0.99)) == (0.0, 2, 3)


def test_the_site_caches_configuration_gets_a_log_and_stays_the_same() -> None:
    """What users get is what is measured, but for the line that says where its log is."""
    text = run_vbnfs("site-cache", "nginx", "--directory", "/kept").stdout
    changed = with_log(text, Path("/log"))
    before, after = set(text.splitlines()), set(changed.splitlines())
    assert before - after == {"  access_log off;"}
    assert {line.split()[0] for line in after - before} == {"log_format", "access_log"}
    with pytest.raises(ValueError, match="access_log"):
        with_log(text.replace("access_log", "other"), Path("/log"))


def test_the_origin_has_a_delay() -> None:
    """In its configuration, with the address where it listens."""
    config = origin_config(Path("/place"), "10.77.0.1", 0.02)
    assert "begin(0.02)" in config
    assert "listen 10.77.0.1:8090" in config


def test_each_client_begins_elsewhere() -> None:
    """With another session than the one before it, and reads all of them."""
    pairs = [("a", "b"), ("c", "d"), ("e", "f")]
    assert turned(pairs, 1) == [("c", "d"), ("e", "f"), ("a", "b")]
    assert turned(pairs, 3) == pairs


def test_a_slice_of_each_file_is_damaged(tmp_path: Path) -> None:
    """In a folder as nginx keeps it: one whole slice of each file that is named, in each of its blocks."""
    bodies = {name: bytes(SLICE_BYTES) for name in ("a", "b", "c")}
    for number, (name, body) in enumerate(bodies.items()):
        (folder := tmp_path / "slices" / "00" / str(number)).mkdir(parents=True)
        key = f"/{BUCKET}/{PROJECT}/{name}.nwb?versionId=1bytes=0-{SLICE_BYTES - 1}"
        (folder / "slice").write_bytes(b"head\nKEY: " + key.encode() + b"\nmore\n" + body)
    assert damage(tmp_path, ["a.nwb", "c.nwb", "none.nwb"]) == 2
    changed = [path.read_bytes()[-SLICE_BYTES:].count(1) for path in sorted(tmp_path.glob("slices/*/*/slice"))]
    assert changed == [4, 0, 4]
