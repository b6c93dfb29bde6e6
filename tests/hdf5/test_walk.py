"""How a walk proceeds: waves, blocks that come late or never, and the bounds."""

from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.hdf5.running import WIDE, Waves
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.hdf5.branches import Bounds
from vbnfs.hdf5.structure import Chunked, Dataset, Group
from vbnfs.hdf5.walk import Walk

GROUPS, MEMBERS = 6, 4
APART_BYTES = 3 * BLOCK_BYTES


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file whose groups lie some blocks apart, as those of a session do."""
    path = tmp_path_factory.mktemp("spread") / "spread.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        for number in range(GROUPS):
            group = file.create_group(f"group {number}")
            for member in range(MEMBERS):
                dataset = group.create_dataset(f"data {member}", data=np.zeros(APART_BYTES, "u1"))
                dataset.attrs["unit"] = "some text"
    return path.read_bytes()


def paths(walked: Waves) -> set[str]:
    return {path for path, _ in walked.structure.walk()}


ALL_PATHS = {
    "/",
    *(f"/group {number}" for number in range(GROUPS)),
    *(f"/group {number}/data {member}" for number in range(GROUPS) for member in range(MEMBERS)),
}


def test_branches_go_side_by_side(spread: bytes) -> None:
    """Objects all over a file take four waves, however many blocks they are in; no block is asked for twice."""
    walked = Waves(spread)
    assert paths(walked) == ALL_PATHS
    assert len(walked.waves) <= 4 < len(walked.asked)
    assert walked.waves[0] == {0}
    assert sum(map(len, walked.waves)) == len(walked.asked) == len(walked.structure.blocks)
    assert walked.structure.is_complete


def test_what_is_here_is_not_asked_for(spread: bytes) -> None:
    """Blocks that are there already are read and not asked for."""
    needed = Waves(spread).asked
    here = sorted(needed)[::2]
    walked = Waves(spread, here=here)
    assert walked.asked == needed - set(here)
    assert walked.structure.blocks == needed
    assert Waves(spread, here=needed).waves == []


def test_blocks_come_one_by_one(spread: bytes) -> None:
    """A walk goes on with each block that comes, in whatever order: it asks for the same blocks."""
    walked = Waves(spread, choose=lambda outstanding: sorted(outstanding)[-1:])
    assert paths(walked) == ALL_PATHS
    assert walked.asked == Waves(spread).asked
    assert walked.structure == Waves(spread).structure


def test_blocks_that_never_come(spread: bytes) -> None:
    """A block that does not come costs what is in it; the rest is found, and nothing waits for it."""
    found = []
    for lost in sorted(Waves(spread).asked - {0}):
        walked = Waves(spread, choose=lambda outstanding, lost=lost: outstanding - {lost})  # type: ignore[misc]
        found.append(paths(walked))
        assert walked.structure.unparsed.keys() == {"blocks that did not come"}
        assert not walked.structure.is_complete
    assert all({"/"} <= each <= ALL_PATHS for each in found)
    assert {len(each) for each in found} > {len(ALL_PATHS)}


def test_a_block_that_is_too_short_is_not_there(spread: bytes) -> None:
    """A block counts only with all of its bytes."""
    walk = Walk(len(spread), lambda number: b"\x89HDF")
    assert walk.advance() == {0}
    assert walk.advance() == frozenset()
    assert walk.outstanding == {0}
    assert walk.result().objects == {}


def test_the_bound_of_bytes(spread: bytes) -> None:
    """No more is asked for than the bound; what most branches wait for comes first; more that is there is read."""
    needed = len(Waves(spread).asked)
    for blocks in range(needed):
        bounds = Bounds(fetched_bytes=blocks * BLOCK_BYTES)
        walked = Waves(spread, bounds=bounds)
        assert len(walked.asked) == blocks
        assert walked.structure.unparsed.keys() == {"beyond the bounds"}
    assert Waves(spread, bounds=Bounds(fetched_bytes=needed * BLOCK_BYTES)).structure.is_complete


def test_the_bound_of_seconds(spread: bytes) -> None:
    """After its seconds a walk asks for nothing more, and has what it found before."""
    ticks = count()
    walked = Waves(spread, bounds=Bounds(seconds=20), clock=lambda: float(next(ticks)))
    assert 1 <= len(walked.structure.objects) < len(ALL_PATHS)
    assert walked.structure.unparsed.keys() == {"beyond the bounds"}
    assert walked.waves[-1]


def test_the_bounds_of_objects_depth_and_reads(spread: bytes) -> None:
    """No more objects are opened than the bound, none deeper, and no more is read."""
    assert len(Waves(spread, bounds=Bounds(fetched_bytes=1 << 30, objects=9)).structure.objects) == 9
    flat = Waves(spread, bounds=Bounds(fetched_bytes=1 << 30, depth=1))
    assert paths(flat) == {"/", *(f"/group {number}" for number in range(GROUPS))}
    few = Waves(spread, bounds=Bounds(fetched_bytes=1 << 30, reads=30))
    assert few.structure.unparsed.keys() == {"beyond the bounds"}


def test_the_bounds_of_memory(spread: bytes) -> None:
    """No more branches stand still than the bound, no more names and blocks are kept; what is left out is counted."""
    blocks = len(Waves(spread).structure.blocks) - 3
    for bounds in (
        Bounds(fetched_bytes=1 << 30, branches=10),
        Bounds(fetched_bytes=1 << 30, kept_bytes=600),
        Bounds(fetched_bytes=1 << 30, block_bytes=blocks * BLOCK_BYTES),
    ):
        walked = Waves(spread, bounds=bounds, here=range(0, 10**4, 2))
        assert len(walked.structure.blocks) * BLOCK_BYTES <= bounds.block_bytes
        assert {"/"} <= paths(walked) < ALL_PATHS
        assert walked.structure.unparsed.keys() == {"beyond the bounds"}


def test_cycles(tmp_path: Path) -> None:
    """A group that has itself and its parents as members is read once."""
    with h5py.File(tmp_path / "cycle.h5", "w") as file:
        inner = file.create_group("a/b")
        inner["self"], inner["root"], file["again"] = inner, file["/"], inner
    walked = Waves((tmp_path / "cycle.h5").read_bytes())
    assert paths(walked) == {"/", "/a", "/again"}
    assert walked.structure.is_complete
    [again] = [each for path, each in walked.structure.walk() if path == "/again"]
    assert isinstance(again, Group)
    assert again.links.keys() == {"self", "root"}


def test_what_is_nested_deeply(tmp_path: Path) -> None:
    """Groups in groups are read down to the bound, and types within types down to 32; what is deeper is counted."""
    datatype = np.dtype("i4")
    for _ in range(40):
        datatype = np.dtype([("inner", datatype)])
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.create_dataset("data", (2,), datatype)
        file.create_group("/".join("g" * 150))
    walked = Waves((tmp_path / "deep.h5").read_bytes())
    assert walked.structure.unparsed == {"datatype": 1, "beyond the bounds": 1}
    assert max(path.count("/g") for path in paths(walked)) == Bounds().depth
    [data] = [each for path, each in walked.structure.walk() if path == "/data"]
    assert isinstance(data, Dataset)
    assert (data.shape, data.datatype) == ((2,), None)


def test_indexes_come_last(tmp_path: Path) -> None:
    """Blocks for indexes of chunks come within a bound of their own, after those for the structure."""
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w") as file:
        for number in range(3):
            data = np.arange(40_000, dtype="i4")
            file.create_dataset(f"chunked {number}", data=data, chunks=(40,), maxshape=(None,))
        file.create_group("last").attrs["unit"] = "text"
    data = path.read_bytes()
    whole = Waves(data, block_bytes=4096)
    bounds = Bounds(fetched_bytes=1 << 20, index_bytes=16 << 10)
    few = Waves(data, block_bytes=4096, bounds=bounds)
    assert paths(few) == paths(whole)
    assert len(few.asked) < len(whole.asked)
    layouts = [each.layout for each in whole.structure.objects.values() if isinstance(each, Dataset)]
    assert layouts == [Chunked((40,), "B-tree 1", layout.start, 1000, 160_000) for layout in layouts]  # type: ignore[union-attr]
    fewer: Any = [each.layout for each in few.structure.objects.values() if isinstance(each, Dataset)]
    assert any(layout.chunks is None and layout.storage_bytes is None for layout in fewer)
    assert few.structure.unparsed.keys() == {"beyond the bounds"}


def test_no_hdf5_file_costs_a_block() -> None:
    """A file that has no superblock within 128 KiB costs its first block, and an empty one nothing."""
    for data in (b"", b"session,unit\n" * 100_000, b"\0" * 100):
        walked = Waves(data)
        assert walked.asked == ({0} if data else set())
        assert (walked.structure.root, walked.structure.objects) == (None, {})
        assert sum(walked.structure.unparsed.values()) == 1


def test_a_walk_begins_anew_from_nothing(spread: bytes) -> None:
    """A walk whose bounds are nothing asks for nothing."""
    assert Waves(spread, bounds=Bounds(fetched_bytes=0)).waves == []
    assert WIDE.fetched_bytes > len(spread)
