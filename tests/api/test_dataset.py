"""`vbnfs.Dataset`: versions, tables, files, and reading them, on the cache that everything shares."""

import asyncio
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd
import pytest

import vbnfs
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, held
from tests.fakes.store import Pattern
from tests.waiting import until
from vbnfs.api import connection
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.dataset import catalog
from vbnfs.errors import DatasetError, TablesError, UsageError

SESSION = "behavior_ecephys_sessions/7/ecephys_session_7.nwb"
LFP = "behavior_ecephys_sessions/7/probe_probeA_lfp.nwb"
UNITS = "project_metadata/units.csv"
SESSIONS = "project_metadata/ecephys_sessions.csv"
SIZE = 9_000_001
FILES = {
    SESSION: Pattern(SIZE, seed=1),
    LFP: Pattern(2_000_003, seed=2),
    UNITS: b"unit_id,ecephys_session_id,snr\n10,7,1.5\n11,7,2.5\n12,8,3.5\n",
    SESSIONS: b"ecephys_session_id,mouse_id,experience_level,unit_count\n7,1,Novel,2\n8,2,Familiar,\n",
}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """Two versions; the second lacks the LFP."""
    with serve({"0.1.0": FILES, "0.2.0": {name: data for name, data in FILES.items() if name != LFP}}) as server:
        yield server


@pytest.fixture
def dataset(server: FakeS3Server) -> Iterator[vbnfs.Dataset]:
    """The dataset of that server."""
    with vbnfs.Dataset(endpoint_url=server.endpoint_url) as dataset:
        yield dataset


def test_versions_and_files(dataset: vbnfs.Dataset) -> None:
    """Versions stand by their names, the newest last; files are found by path, by name, and refused by name."""
    assert dataset.versions == ["0.1.0", "0.2.0"]
    assert dataset.latest.name == "0.2.0"
    old = dataset.version("0.1.0")
    assert {file.path for file in old.files} == set(FILES)
    assert old.file(SESSION) == old.file("ecephys_session_7.nwb") == dataset.file(f"v0.1.0/{SESSION}")
    assert (old.file(SESSION).size, old.file(SESSION).kind) == (SIZE, "sessions")
    with pytest.raises(FileNotFoundError, match=r"no file 'ecephys_session_8.nwb'"):
        old.file("ecephys_session_8.nwb")
    with pytest.raises(DatasetError, match=r"there is no dataset version 0.3.0; there are: 0.1.0, 0.2.0"):
        dataset.version("0.3.0")


def test_names_of_files(dataset: vbnfs.Dataset) -> None:
    """A file is found by each path that mounts and `vbnfs://` have of it; a wrong version, or no text, says so."""
    file = dataset.version("0.1.0").file(SESSION)
    flat = "ecephys_sessions/ecephys_session_7.nwb"
    texts, kinds = (f"v0.1.0/{flat}", f"vbnfs://v0.1.0/{flat}", file.place), (PurePosixPath, PureWindowsPath)
    for path in (*texts, *(kind(f"v0.1.0/{SESSION}") for kind in kinds)):
        assert dataset.file(path) == file
    assert dataset.version("0.1.0").file(PureWindowsPath(SESSION)) == file
    assert dataset.file(f"latest/{flat}") == dataset.file(flat) == dataset.latest.file(SESSION)
    with pytest.raises(DatasetError, match=r"no dataset version 0.3.0; there are: 0.1.0, 0.2.0"):
        dataset.open(f"v0.3.0/{SESSION}")
    with pytest.raises(FileNotFoundError, match=r"no file ''"):
        dataset.file("v0.1.0")
    for session_id in (7, "7", np.int64(7), 7.0):
        assert repr(dataset.session(session_id)) == "<vbnfs.Session 7: ecephys_session_7.nwb>"
    for wrong in ("seven", 7.5, float("nan"), float("inf")):
        with pytest.raises(
            ValueError, match=f"a session's id is a whole number, such as 1044385384, and not {wrong!r}"
        ):
            dataset.session(wrong)
    for wrong in (None, [7]):
        with pytest.raises(TypeError, match="a session's id is a whole number"):
            dataset.session(wrong)


def test_one_file_is_no_list(dataset: vbnfs.Dataset) -> None:
    """A path or a file alone will do where files are asked for, and one column where columns are."""
    assert dataset.prefetch(UNITS, progress=False)["outcome"].tolist() == ["good"]
    version = dataset.latest
    assert version.verify(version.file(UNITS))["outcome"].tolist() == ["good"]
    path = PurePosixPath(UNITS)
    windows = PureWindowsPath(UNITS)
    for files in (path, [path], windows, pd.Index([f"v0.2.0/{UNITS}"]), np.array([UNITS]), iter([UNITS])):
        assert version.verify(files)["outcome"].tolist() == ["good"]
    assert version.find("units", columns="unit_id", sort="-snr", limit=np.int64(2)).to_numpy().tolist() == [
        [12],
        [11],
    ]
    with pytest.raises(ValueError, match="limit is -1"):
        version.find("units", limit=-1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda dataset: dataset.version(0.5), "a dataset version is text, such as '0.5.0', and not 0.5"),
        (lambda dataset: dataset.session(7).lfp(0), "a probe is text, such as 'probeA', and not 0"),
        (lambda dataset: dataset.session(7).prefetch(lfp=None), "lfp is True, False, or probes, .*, and not None"),
        (lambda dataset: dataset.session(7).prefetch(lfp=[1]), "a probe is text, such as 'probeA', and not 1"),
        (lambda dataset: dataset.latest.table(None), "a table is text, such as 'units', and not None"),
        (lambda dataset: dataset.latest.find(5), "a table is text, such as 'units', and not 5"),
        (lambda dataset: dataset.latest.find("units", 5), "a query is text, such as .*, and not 5"),
        (
            lambda dataset: dataset.latest.find("units", having={"sessions": 7}),
            "a query is text, such as .*, and not 7",
        ),
        (lambda dataset: dataset.latest.find("units", having=["snr"]), r"having is a dict, .*, and not \['snr'\]"),
        (lambda dataset: dataset.latest.find("units", sort=[5]), "a column is text, such as '-snr', and not 5"),
        (
            lambda dataset: dataset.latest.find("units", limit=1.5),
            "'float' object cannot be interpreted as an integer",
        ),
        (lambda dataset: dataset.prefetch(sessions=7), "a query is text, such as .*, and not 7"),
        (
            lambda dataset: dataset.prefetch(5),
            "files are named by vbnfs.File, text or a path, or several, and not by 5",
        ),
        (
            lambda dataset: dataset.prefetch([dataset.session(7)]),
            r"files are named by .*, and not by \[<vbnfs.Session",
        ),
        (lambda dataset: dataset.pin(None, UNITS), "the name of a pin is text, such as 'figure-2', and not None"),
        (
            lambda dataset: dataset.latest.pin("one", UNITS, note=5),
            "a note is text, such as 'for the figure', and not 5",
        ),
        (lambda dataset: dataset.session(7).pin(7), "the name of a pin is text, such as 'figure-2', and not 7"),
        (lambda dataset: dataset.unpin(["one"]), r"the name of a pin is text, .*, and not \['one'\]"),
    ],
)
def test_arguments_of_a_wrong_type(
    dataset: vbnfs.Dataset, call: Callable[[vbnfs.Dataset], object], said: str
) -> None:
    """They are refused at once, in words that say what is wanted; nothing is pinned."""
    with pytest.raises(TypeError, match=said):
        call(dataset)
    assert dataset.pins.empty


def test_a_setting_that_there_is_not(server: FakeS3Server) -> None:
    """A wrong name is answered with the near one, a wrong value as on the command line."""
    with pytest.raises(UsageError, match="no setting endpont_url; near it: endpoint_url"):
        vbnfs.Dataset(endpont_url=server.endpoint_url)
    with pytest.raises(UsageError, match=r"^cache_size: 'much' will not do"):
        vbnfs.Dataset(endpoint_url=server.endpoint_url, cache_size="much")


def test_tables(dataset: vbnfs.Dataset) -> None:
    """Frames have AllenSDK's index and types; they are the caller's own; queries are those of the command line."""
    sessions = dataset.latest.sessions
    assert sessions.index.name == "ecephys_session_id"
    assert sessions["unit_count"].dtype == pd.Int64Dtype()
    sessions["mouse_id"] = 0
    assert list(dataset.latest.sessions["mouse_id"]) == [1, 2]
    found = dataset.latest.find("units", "snr > 1", having={"sessions": "experience_level == 'Novel'"})
    assert list(found["unit_id"]) == [10, 11]
    with pytest.raises(TablesError, match="near it: units"):
        dataset.latest.table("unit")


def test_an_open_file(dataset: vbnfs.Dataset) -> None:
    """It reads, seeks and ends as one of Python's own does; what is closed refuses."""
    with dataset.open(f"v0.1.0/{SESSION}") as file:
        expected = io.BytesIO(FILES[SESSION][:])
        assert (file.readable(), file.seekable(), file.writable(), file.size) == (True, True, False, SIZE)
        for offset, whence, size in [
            (5, 0, 100),
            (-7, 2, 20),
            (0, 2, 5),
            (SIZE + 5, 0, 5),
            (-SIZE - 5, 1, 3),
            (1, 1, -1),
        ]:
            assert file.seek(offset, whence) == expected.seek(offset, whence)
            assert file.read(size) == expected.read(size)
            assert file.tell() == expected.tell()
        buffer = bytearray(1000)
        file.seek(SIZE - 400)
        assert file.readinto(buffer) == 400
        assert buffer[:400] == FILES[SESSION][SIZE - 400 :]
        with pytest.raises(ValueError, match="before the file's beginning"):
            file.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        again = pickle.loads(pickle.dumps(file))
        assert again.tell() == file.tell()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_numbers(dataset: vbnfs.Dataset) -> None:
    """NumPy's small numbers do not overflow; what is no whole number is refused at once."""
    file, data = dataset.open(f"v0.1.0/{SESSION}"), FILES[SESSION]
    file.seek(np.uint8(200))
    assert file.seek(np.uint8(200), 1) == 400
    assert file.read(np.uint8(200)) == data[400:600]
    assert file.read(np.int8(100)) == data[600:700]
    assert file.read_at(np.uint8(200), np.uint8(100)) == data[200:300]
    assert file.read_ranges(np.array([[200, 100], [250, 9]], "u1")) == [data[200:300], data[250:259]]
    for refused in (lambda: file.seek(1.5), lambda: file.read(1.5), lambda: file.read_at(0, "5")):
        with pytest.raises(TypeError):
            refused()
    with pytest.raises(TypeError):
        file.read_ranges([(0.5, 1)])
    assert file.tell() == 700


def test_buffers(dataset: vbnfs.Dataset) -> None:
    """Arrays of any type and shape are filled; one of no size is; one that is read-only, or has gaps, is refused."""
    file, array = dataset.open(f"v0.1.0/{SESSION}"), np.zeros((3, 5), "f8")
    assert (file.readinto(array), array.tobytes()) == (120, FILES[SESSION][:120])
    assert file.readinto(np.zeros((0, 5))) == 0
    with pytest.raises(TypeError, match="a writable buffer, and not into bytes"):
        file.readinto(bytes(5))
    with pytest.raises(TypeError):
        file.readinto(np.zeros(10)[::2])
    assert file.tell() == 120


def test_ranges_come_in_one_wave(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """Ranges that are scattered cost the blocks that they touch; a second time they cost nothing."""
    file = dataset.file(f"v0.1.0/{SESSION}").open()
    server.forget_requests()
    ranges = [(n * 2 * BLOCK_BYTES + 17, 1000) for n in range(17)] + [(SIZE - 3, 10), (SIZE + 1, 5), (0, 0)]
    expected = [FILES[SESSION][offset : offset + size] for offset, size in ranges]
    assert file.read_ranges(ranges) == expected
    touched = {
        offset // BLOCK_BYTES for offset, size in ranges[:-2] for offset in (offset, min(offset + size, SIZE) - 1)
    }
    assert server.body_bytes <= len(touched) * BLOCK_BYTES * 2
    server.forget_requests()
    assert file.read_ranges(ranges) == expected
    assert server.requests == []
    with pytest.raises(ValueError, match="negative"):
        file.read_ranges([(-1, 5)])


def test_many_threads(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """Sixteen threads read one file of one dataset: each byte is right, and travels once."""
    file = dataset.file(f"v0.1.0/{SESSION}").open()
    server.forget_requests()
    places = [(n * 7919 * 97 % SIZE, 40_000) for n in range(200)]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda place: file.read_at(*place), places))
    assert found == [FILES[SESSION][offset : offset + size] for offset, size in places]
    assert server.body_bytes <= 1.01 * SIZE


def test_urls(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """A file's URL is where the server has that very version of it."""
    file = dataset.version("0.1.0").file(UNITS)
    with urllib.request.urlopen(file.url) as reply:
        assert reply.read() == FILES[UNITS]
    assert f"versionId={file.entry.version.version_id}" in file.url


def test_allensdk_is_asked_for_by_name(dataset: vbnfs.Dataset, tmp_path: Path) -> None:
    """Where AllenSDK is missing, an error says how to install it; vbnfs's own cache is no folder for it."""
    with pytest.raises(ImportError, match=r"allensdk_cache\(\) needs allensdk: pip install allensdk \"hdmf<5\""):
        vbnfs.allensdk_cache(tmp_path / "sdk", dataset)
    with pytest.raises(UsageError, match="give AllenSDK a folder of its own"):
        vbnfs.allensdk_cache(dataset.config.cache_dir / "sdk", dataset)
    assert not (tmp_path / "sdk").exists()


def test_in_a_running_event_loop(dataset: vbnfs.Dataset) -> None:
    """A notebook's cell runs in asyncio's loop: calls work there."""

    async def cell() -> int:
        return len(dataset.latest.file(SESSION).read_bytes())

    assert asyncio.run(cell()) == SIZE


def test_a_whole_file_has_a_path(dataset: vbnfs.Dataset) -> None:
    """What is whole, and was checked, is a file of the cache; before it is none."""
    file = dataset.version("0.1.0").file(LFP)
    assert (file.local_path, file.cached_bytes) == (None, 0)
    file.prefetch()
    path = file.local_path
    assert path is not None
    assert path.read_bytes() == FILES[LFP][:]
    assert file.cached_bytes == file.size


def test_offline(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """What is cached is read without S3; what is not is an `OSError` that says so."""
    dataset.version("0.1.0").file(LFP).prefetch()
    dataset.close()
    offline = vbnfs.Dataset(endpoint_url=server.endpoint_url, offline=True)
    server.forget_requests()
    assert offline.open(f"v0.1.0/{LFP}").read() == FILES[LFP][:]
    with pytest.raises(OSError, match=r"not reached|offline"):
        offline.open(f"v0.1.0/{SESSION}").read(1)
    assert server.requests == []
    offline.close()


def test_a_network_that_goes_and_comes_back(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """Without it an open dataset reads what is cached, and the rest fails at once; when it is back, reads go on."""
    file = dataset.file(f"v0.1.0/{SESSION}").open()
    file.read_at(0, 10)
    with server.refusing():
        for offset in range(5_000_000, 8_000_000, 1_000_000):
            with pytest.raises(OSError, match="offline"):  # and not what the last of many tries said
                file.read_at(offset, 10)
        assert file.read_at(0, 10) == FILES[SESSION][:10]
    until(lambda: is_read(file, 5_000_000), seconds=60)


def test_opened_without_network(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """A dataset that was opened from what is kept reads on when the network is there, and has no problem then.

    So it is with tables, of which nothing was cached.
    """
    assert dataset.versions
    dataset.close()
    with server.refusing():
        assert len(dataset.problems) == 1
        file = dataset.file(f"v0.1.0/{LFP}").open()
        with pytest.raises(OSError, match="offline"):
            file.read_at(0, 10)
        with pytest.raises(OSError, match="not cached"):
            _ = dataset.latest.units
    until(lambda: is_read(file, 0), seconds=60)
    until(lambda: not dataset.problems, seconds=60)
    assert len(dataset.latest.units) == 3


def test_opened_while_the_list_is_slow(
    dataset: vbnfs.Dataset, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that does not come in time at the opening is asked for again, though the network never went."""
    monkeypatch.setattr(catalog, "_AWAITED_SECONDS", 0.5)
    monkeypatch.setattr(connection, "_AGAIN_SECONDS", 0.1)
    assert dataset.versions
    dataset.close()
    gate = threading.Event()
    server.behaviours.append(lambda request, honest: None if request.key else held(gate)(request, honest))
    [problem] = dataset.problems
    assert "the list of manifests has not come within 0.5 s" in problem
    gate.set()
    until(lambda: not dataset.problems, seconds=60)
    assert len(dataset.latest.units) == 3


def is_read(file: vbnfs.RemoteFile, offset: int) -> bool:
    """Whether some bytes can be had, and are right."""
    try:
        data = file.read_at(offset, 10)
    except OSError:
        return False
    return data == FILES[file.name][offset : offset + 10]


CHILD = """
import multiprocessing, pickle, sys
import vbnfs
dataset = pickle.loads(bytes.fromhex(sys.argv[1]))
file = dataset.file(sys.argv[2]).open()
first = file.read_at(0, 1000)

def read(offset):
    return file.read_at(offset, 1000) == data[offset:offset + 1000] and dataset.latest.sessions.shape == (2, 3)

data = open(sys.argv[3], "rb").read()
for method in ("fork", "spawn") if __name__ == "__main__" and sys.platform == "linux" else ():
    if method == "fork":
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert all(pool.map(read, range(0, 9_000_000, 1_000_000)))
    else:
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(len, [data[:5]]) == [5]
            assert pool.starmap(vbnfs.RemoteFile.read_at, [(file, 5, 100)]) == [data[5:105]]
if __name__ == "__main__":
    print("right")
"""


def test_closed_by_another_thread(dataset: vbnfs.Dataset, server: FakeS3Server) -> None:
    """A read that waits for S3 meanwhile ends and says so; the next one opens the dataset again."""
    file, gate = dataset.open(f"v0.1.0/{SESSION}"), threading.Event()
    server.behaviours.append(held(gate))
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(file.read_at, 0, 1000)
        server.wait_until(lambda server: any(SESSION in request.key for request in server.requests), seconds=60)
        dataset.close()
        with pytest.raises(ValueError, match="closed by another thread"):
            reading.result(60)
    gate.set()
    assert file.read_at(0, 1000) == FILES[SESSION][:1000]


def test_closed_and_opened_by_another_thread(dataset: vbnfs.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that began before, and asks for bytes after, says so, too."""
    file = dataset.open(f"v0.1.0/{SESSION}")
    here = file._reading.now()
    dataset.close()
    assert dataset.versions == ["0.1.0", "0.2.0"]
    with monkeypatch.context() as before:
        before.setattr(file._reading, "now", lambda: here)
        for read in (lambda: file.read_at(0, 8), file.read, lambda: file.read_ranges([(0, 5)])):
            with pytest.raises(ValueError, match="closed by another thread"):
                read()
    assert file.read_at(0, 8) == FILES[SESSION][:8]


def test_child_processes(dataset: vbnfs.Dataset, tmp_path: Path) -> None:
    """Pickled into a process, used there, forked from there with files open, and spawned: each opens its own."""
    (tmp_path / "program.py").write_text(CHILD)
    (tmp_path / "data").write_bytes(FILES[SESSION][:])
    words = [pickle.dumps(dataset).hex(), f"v0.1.0/{SESSION}", str(tmp_path / "data")]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", tmp_path / "program.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "right\n", "")


def test_log_lines_are_python_s(
    dataset: vbnfs.Dataset, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is noted goes to the logger `vbnfs`, with values by name; nothing is printed."""
    caplog.set_level(logging.INFO, logger="vbnfs")
    dataset.version("0.1.0").file(LFP).prefetch()
    assert any("file verified" in message and LFP in message for message in caplog.messages)
    assert capfd.readouterr() == ("", "")


def test_importing_it_costs_nothing() -> None:
    """`import vbnfs` imports neither pandas nor trio; `dir` and `help` know what there is; `vbnfs.errors` is one."""
    program = "import vbnfs, sys; print(vbnfs.errors.UsageError.__name__, 'Dataset' in dir(vbnfs))"
    program += "; print(sorted({'pandas', 'trio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "UsageError True\n[]\n"
