"""The file of a record: what it may be, and what becomes of lines where the disk does not take them."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fakes.disks import memory_disk
from vbnfs.config.sources import load_config
from vbnfs.daemon.recording import Recorder, RecordFile, open_record
from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.read_records import parse_record
from vbnfs.dataset.tree import DataNode
from vbnfs.errors import RecordError
from vbnfs.filesystem import recording
from vbnfs.objects import Content, ObjectVersion

SIZE = 1 << 30
SOURCE = ObjectVersion("project/a.nwb", "v1")
NODE = DataNode(7, NamedContent("c", (SOURCE,)), ("0.5.0",), 1)
CONTENT = Content("c", SIZE, SOURCE)


def recorder_of(path: Path) -> Recorder:
    return Recorder(RecordFile(path), load_config(command_line={}), "0.5.0")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines() if line]


def read_through(recorder: Recorder, *places: int, handle: int = 1) -> None:
    recorder.recording.note_opened(handle, NODE, CONTENT, os.getpid())
    for place in places:
        recorder.recording.note_read(handle, place, 4096)


async def test_lines_of_an_open_file(tmp_path: Path) -> None:
    """Each line has what was read since the one before, with the same number; closing adds none if nothing is new."""
    recorder = recorder_of(path := tmp_path / "r.jsonl")
    read_through(recorder, 0, 4096)
    await recorder.end()
    recorder.recording.note_read(1, 8192, 4096)
    recorder.recording.note_released(1)
    await recorder.end()
    first, *opens = lines_of(path)
    assert (first["record"], first["dataset_version"]) == (1, "0.5.0")
    assert [(line["open"], line["ranges"]) for line in opens] == [(1, [[0, 8192]]), (1, [[8192, 12288]])]
    assert opens[0]["program"] == Path("/proc/self/comm").read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    await recorder.end()
    assert len(lines_of(path)) == 3


async def test_many_ranges_are_blocks(tmp_path: Path) -> None:
    """Random reads of a large file take whole blocks, lines of bounded length, and no byte is left out."""
    recorder = recorder_of(path := tmp_path / "r.jsonl")
    places = [block * 3 * (256 << 10) + 5 * 4096 for block in range(1000)]
    read_through(recorder, *places)
    await recorder.end()
    assert max(map(len, path.read_bytes().splitlines())) < 12 << 10
    assert any(line.get("in_blocks") for line in lines_of(path))
    [file] = parse_record(path.read_bytes().splitlines(), "r").files
    assert all(any(start <= place and place + 4096 <= stop for start, stop in file.ranges) for place in places)


async def test_a_file_that_is_moved_is_begun_anew(tmp_path: Path) -> None:
    """What is at the path has the line of the mount, and what was read since; the moved one keeps what it had."""
    recorder = recorder_of(path := tmp_path / "r.jsonl")
    read_through(recorder, 0)
    await recorder.end()
    path.rename(tmp_path / "old")
    recorder.recording.note_read(1, 4096, 4096)
    await recorder.end()
    for one, ranges in ((tmp_path / "old", [[0, 4096]]), (path, [[4096, 8192]])):
        first, line = lines_of(one)
        assert first["record"] == 1
        assert line["ranges"] == ranges


async def test_an_unfinished_line_stays_alone(tmp_path: Path) -> None:
    """Behind a line that a killed daemon has left unfinished, the next one is whole."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"record":1,"mou')
    recorder = recorder_of(path)
    read_through(recorder, 0)
    await recorder.end()
    record = parse_record(path.read_bytes().splitlines(), "r")
    assert (record.damaged, len(record.files)) == (1, 1)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that a few files fill."""
    with memory_disk(tmp_path / "disk", "size=64k") as disk:
        yield disk


@pytest.mark.root
async def test_a_full_disk(small_disk: Path) -> None:
    """Lines wait for room, and are written when there is some: none is lost, and the status says what is wrong."""
    recorder = recorder_of(path := small_disk / "r.jsonl")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        fill(filler)
    for number in range(100):
        read_through(recorder, number << 20, handle=number)
        recorder.recording.note_released(number)
    await recorder.end()
    assert recorder.report()["problem"] == "No space left on device"
    filler.unlink()
    await recorder.end()
    assert recorder.report() == {"file": str(path), "problem": None, "lost_lines": 0}
    record = parse_record(path.read_bytes().splitlines(), "r")
    assert (len(record.files[0].ranges), len(record.files[0].opens)) == (100, 100)


async def test_what_finds_no_room_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lines that wait for a disk as many are kept as there is room for; the record says how many are lost."""
    monkeypatch.setattr(recording, "_MOST_WAITING", 50)
    recorder = recorder_of(path := tmp_path / "r.jsonl")
    for number in range(20):
        read_through(recorder, 0, handle=number)
        recorder.recording.note_released(number)
    await recorder.end()
    await recorder.end()
    record = parse_record(path.read_bytes().splitlines(), "r")
    assert record.lost == recorder.report()["lost_lines"] == 20 - len(record.files[0].opens) > 0


@pytest.mark.root
async def test_another_users_file_is_refused(tmp_path: Path) -> None:
    """Also where it can be written: that user would read what is in it. What becomes another's is not written on."""
    path = tmp_path / "r.jsonl"
    recorder = recorder_of(path)
    await recorder.end()
    path.unlink()
    path.touch(0o666)
    os.chown(path, 65534, 65534)
    with pytest.raises(RecordError, match="it is another user's file; choose another --record"):
        RecordFile(path)
    read_through(recorder, 0)
    await recorder.end()
    assert recorder.report()["problem"] == "it is another user's file"
    assert path.read_bytes() == b""


async def test_what_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe, a device, a file in no folder, or in the mount: with the reason and a remedy."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mnt").mkdir()
    config = load_config(command_line={})
    for path, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "pipe", "no regular file"),
        (Path("/dev/null"), "no regular file"),
        (tmp_path / "link", "Too many levels of symbolic links"),
        (tmp_path / "no" / "r", "No such file or directory"),
        (tmp_path / "mnt" / "r", "cannot lie in the folder that is mounted on"),
    ):
        with trio.fail_after(30), pytest.raises(RecordError, match=f"{reason}; choose another --record"):
            await open_record(replace(config, record=path), tmp_path / "mnt")
