"""Quick looks into files that were made to do harm: what they name is not read, what they claim not believed."""

import html
import io
import os
import re
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import pytest
from hypothesis import given, settings

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.hdf5.test_fuzz import damaged, damages
from tests.web.conftest import Visit, visiting
from tests.web.test_odd_files import LFP, RUNNING
from tests.web.test_quick_looks import plots
from vbnfs.web.looking import Looking
from vbnfs.web.quick_looks import TITLES, AskedLook

SECRET: Final = 4711.0  # what a file of this machine has, and no page
_MOST_PAGE_BYTES: Final = 2_000_000
_MOST_FETCHED_BYTES: Final = 12 << 20  # times of a million samples, and what is read along

Make = Callable[[h5py.File], None]


def running(file: h5py.File, count: int = 1000) -> None:
    """Times for the running speed, whose values are what is hostile."""
    file[f"{RUNNING}/timestamps"] = np.arange(float(count))


def units(file: h5py.File, spikes: int = 10) -> None:
    """One unit."""
    file["units/id"], file["units/spike_times_index"], file["units/spike_times"] = [1], [spikes], np.zeros(spikes)


def link_out(file: h5py.File) -> None:
    """The values are in another file."""
    running(file)
    file[f"{RUNNING}/data"] = h5py.ExternalLink(secret("h5"), "/values")


def soft_link_out(file: h5py.File) -> None:
    """The values are behind a link within the file, which leads on into another one."""
    running(file)
    file["out"] = h5py.ExternalLink(secret("h5"), "/")
    file[f"{RUNNING}/data"] = h5py.SoftLink("/out/values")


def group_out(file: h5py.File) -> None:
    """A table of the stimulus is a group of another file."""
    units(file)
    file["intervals/images"] = h5py.ExternalLink(secret("h5"), "/intervals")


def raw_out(file: h5py.File) -> None:
    """The values are the bytes of any file (external raw storage)."""
    running(file)
    file.create_dataset(f"{RUNNING}/data", (1000,), "f8", external=[(secret("raw"), 0, 8000)])


def virtual_out(file: h5py.File) -> None:
    """The values are those of a dataset in another file."""
    running(file)
    layout = h5py.VirtualLayout((1000,), "f8")
    layout[:] = h5py.VirtualSource(secret("h5"), "values", (1000,))
    file.create_virtual_dataset(f"{RUNNING}/data", layout, fillvalue=1.0)


def circle(file: h5py.File) -> None:
    """A link that leads to itself."""
    running(file)
    file[f"{RUNNING}/data"] = h5py.SoftLink(f"/{RUNNING}/data")


def large_chunk(file: h5py.File) -> None:
    """A chunk of 2 GiB, of which nothing was ever written."""
    running(file)
    file.create_dataset(f"{RUNNING}/data", (1000,), "f8", chunks=(1 << 28,), maxshape=(None,))


def bomb(file: h5py.File) -> None:
    """A chunk of 8 kB whose compressed bytes are 4 GiB of zeros."""
    running(file)
    data = file.create_dataset(f"{RUNNING}/data", (1000,), "f8", chunks=(1000,), compression="gzip")
    packer = zlib.compressobj(9, wbits=15)
    head = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    data.id.write_direct_chunk((0,), head + 255 * piece)


def plugin(file: h5py.File) -> None:
    """A filter that is no part of HDF5: its library would be loaded from a folder."""
    running(file)
    create, space = h5py.h5p.create(h5py.h5p.DATASET_CREATE), h5py.h5s.create_simple((1000,))
    create.set_chunk((1000,))
    create.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file[RUNNING].id, b"data", h5py.h5t.NATIVE_DOUBLE, space, create)


def texts(file: h5py.File) -> None:
    """Texts of any length in the place of numbers."""
    running(file)
    file[f"{RUNNING}/data"] = np.array(["x" * 1000] * 1000, dtype=h5py.string_dtype())


def references(file: h5py.File) -> None:
    """References to objects in the place of numbers."""
    running(file)
    file.create_dataset(f"{RUNNING}/data", data=[file.ref] * 1000, dtype=h5py.ref_dtype)


def wide(file: h5py.File) -> None:
    """Elements of 1 GB each."""
    running(file)
    file.create_dataset(f"{RUNNING}/data", (1000,), np.dtype([("a", "V1000000000")]))


def large_attribute(file: h5py.File) -> None:
    """A factor of 64 MB."""
    running(file)
    file[f"{RUNNING}/data"] = np.zeros(1000)
    file[f"{RUNNING}/data"].attrs["conversion"] = np.zeros(8_000_000)


def many_units(file: h5py.File) -> None:
    """More units than a probe can have."""
    units(file)
    del file["units/id"]
    file["units/id"] = np.arange(3_000_000)


def fast(file: h5py.File) -> None:
    """LFP of a million samples in a second."""
    file[f"{LFP}/data"], file[f"{LFP}/timestamps"] = np.zeros((1_000_000, 1), "i1"), np.linspace(0, 1, 1_000_000)


def crowded(file: h5py.File) -> None:
    """A hundred thousand spikes around each of a hundred thousand changes, at the same moment."""
    units(file, 100_000)
    file["intervals/images/start_time"], file["intervals/images/is_change"] = (
        np.zeros(100_000),
        np.ones(100_000, bool),
    )


def markup(file: h5py.File) -> None:
    """Names that are markup, and have line breaks."""
    file["acquisition/</p>\n<script>alert(1)</script>/x\n_lfp_data/data"] = h5py.SoftLink("/<b>none")
    file["acquisition/</p>\n<script>alert(1)</script>/x\n_lfp_data/timestamps"] = np.zeros(10)


def secret(kind: str) -> str:
    """The file of this machine that hostile files name."""
    return os.environ["TEST_SECRET"] + f".{kind}"


HOSTILE: Final = {
    link_out: ("look=running", "leads into another file"),
    soft_link_out: ("look=running", "leads into another file"),
    group_out: ("look=unit", "The file has no changes of a stimulus"),
    raw_out: ("look=running", "has its values in another file"),
    virtual_out: ("look=running", "has its values in other datasets"),
    circle: ("look=running", "links lead to links without an end"),
    large_chunk: ("look=running", "has chunks of 2.0 GiB"),
    bomb: ("look=running", "no such figure can be made"),
    plugin: ("look=running", "is stored by a filter (32001) that is not read here"),
    texts: ("look=running", "has no numbers"),
    references: ("look=running", "has no numbers"),
    wide: ("look=running", "has no numbers"),
    large_attribute: ("look=running", "conversion is no number"),
    many_units: ("look=unit", "3,000,000 units are too many"),
    fast: ("look=lfp&seconds=1", "points are too many to be drawn"),
    crowded: ("look=unit", "it needs more memory than a quick look may take"),
    markup: ("look=lfp", "no such figure can be made"),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """A release of all these files, and what they name on this machine."""
    place = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", str(place / "secret"))
        with h5py.File(place / "secret.h5", "w") as file:
            file["values"] = np.full(1000, SECRET)
            file["intervals/start_time"], file["intervals/is_change"] = [0.0], [True]
        (place / "secret.raw").write_bytes(np.full(1000, SECRET).tobytes())
        files = {f"odd/{make.__name__}.nwb": hostile(place / make.__name__, make) for make in HOSTILE}
        with serve({"0.5.0": files}) as server:
            yield server


def hostile(path: Path, make: Make) -> bytes:
    """The bytes of a file, in the newest form of HDF5: older ones have no large attributes."""
    with h5py.File(path, "w", libver="latest") as file:
        make(file)
    return path.read_bytes()


@pytest.fixture
def visitor(served: FakeS3Server) -> Iterator[Visit]:
    """The page of that release, with nothing cached."""
    with visiting(served) as visit:
        yield visit


@pytest.mark.parametrize("is_here", [False, True], ids=["remote", "whole"])
@pytest.mark.parametrize(("make", "asked"), HOSTILE.items(), ids=[make.__name__ for make in HOSTILE])
def test_a_hostile_file(
    visitor: Visit, served: FakeS3Server, make: Make, asked: tuple[str, str], is_here: bool
) -> None:
    """The page says why there is no figure, whether the file is whole in the cache or not.

    It shows nothing of other files, and is of a bounded size; no more of the file is fetched than a look needs.
    """
    query, words = asked
    path = f"odd/{make.__name__}.nwb"
    if is_here:
        visitor.house.dataset.file(path).prefetch()
    before = served.body_bytes
    answer = visitor.browser.get(f"/look/v0.5.0/{path}?{query}")
    assert answer.status_code == 200
    assert words in html.unescape(answer.text)
    assert f"{SECRET:.0f}" not in answer.text
    assert "<script>alert" not in answer.text
    assert len(answer.content) < _MOST_PAGE_BYTES
    assert all(plot["x"] for plot in plots(answer.text))
    if make is not large_attribute:  # HDF5's library reads an attribute whole to say what it is
        assert served.body_bytes - before < _MOST_FETCHED_BYTES


class InMemory:
    """A file that is open, with a gate before its bytes."""

    def __init__(self, data: bytes, gate: threading.Event | None = None) -> None:
        self.data, self.asked, self._gate = data, threading.Event(), gate

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Some of them."""
        self.asked.set()
        if self._gate is not None:
            self._gate.wait(60)
        return self.data[offset : offset + size]


def in_memory(make: Make) -> bytes:
    """The bytes of a file."""
    with io.BytesIO() as place:
        with h5py.File(place, "w") as file:
            make(file)
        return place.getvalue()


def small(file: h5py.File) -> None:
    """A file that has all that can be looked at."""
    units(file)
    running(file)
    file["units/waveform_mean"], file["units/waveform_mean_index"] = np.zeros((10, 4)), [10]
    file.create_dataset(f"{RUNNING}/data", data=np.zeros(1000), chunks=(100,), compression="gzip")
    file["intervals/images/start_time"], file["intervals/images/is_change"] = [0.0], [True]
    file[f"{LFP}/data"], file[f"{LFP}/timestamps"] = np.zeros((1000, 4), "f4"), np.arange(1000) / 1000


def many_tables(file: h5py.File) -> None:
    """A table of the stimulus that has a hundred thousand names."""
    units(file)
    table = file.create_group("intervals/images")
    table["start_time"], table["is_change"] = np.zeros(1000), np.ones(1000, bool)
    for number in range(100_000):
        file[f"intervals/{number}"] = table


@pytest.fixture(scope="module")
def looking() -> Iterator[Looking]:
    """What makes quick looks."""
    made = Looking(processor_seconds=1)
    yield made
    made.close()


SMALL: Final = in_memory(small)


@settings(max_examples=15)
@given(damages)
def test_a_damaged_file(looking: Looking, done: list[tuple[str, int, bytes]]) -> None:
    """Whatever the bytes of a file are, each look at it has an answer."""
    for kind in TITLES:
        answer = looking.answer(InMemory(damaged(SMALL, done)), AskedLook(kind))
        assert answer.keys() in ({"problem"}, {"figures", "units"})


def test_a_file_that_takes_too_long(looking: Looking) -> None:
    """The kernel ends what takes too much processor time; the next look is as any other."""
    answer = looking.answer(InMemory(in_memory(many_tables)), AskedLook("unit"))
    assert answer == {"problem": "it takes more than 1 s of processor time"}
    assert "figures" in looking.answer(InMemory(SMALL), AskedLook("unit"))


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_what_reads_a_file_may_nothing_else(looking: Looking) -> None:
    """The process that has HDF5's library opens no file, and its memory and processor time are bounded."""
    for _ in range(2):
        assert "figures" in looking.answer(InMemory(SMALL), AskedLook("unit"))
        process = looking._idle
        assert process is not None
        limits = dict(re.findall(r"Max ([a-z ]+?)  +(\S+)", Path(f"/proc/{process.pid}/limits").read_text()))
        assert (limits["open files"], limits["data size"]) == ("0", str(1 << 30))
        assert int(limits["cpu time"]) < 60


def test_a_file_that_asks_for_too_much(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of bytes, or of parts: its process is ended."""
    for name, most in (("_MOST_BYTES", 1000), ("_MOST_READS", 3), ("_MOST_PIECE_BYTES", 4)):
        with monkeypatch.context() as patch:
            patch.setattr(f"vbnfs.web.looking.{name}", most)
            assert "of the file, which is too much" in looking.answer(InMemory(SMALL), AskedLook("unit"))["problem"]


def test_the_page_ends_during_a_look() -> None:
    """What makes the look is ended, and nobody waits for it."""
    gate, looking, answers = threading.Event(), Looking(), []
    file = InMemory(SMALL, gate)
    thread = threading.Thread(target=lambda: answers.append(looking.answer(file, AskedLook("unit"))))
    thread.start()
    assert file.asked.wait(60)
    looking.close()
    gate.set()
    thread.join(60)
    assert answers == [{"problem": "the page ends"}]
    assert looking.answer(InMemory(SMALL), AskedLook("unit")) == {"problem": "the page ends"}
