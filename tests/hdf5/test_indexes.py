"""Indexes of chunks, of every kind, so large that they have all parts that they may have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest

from tests.hdf5.running import Waves
from tests.hdf5.truth import comparable, index_of, objects_of

BLOCK_BYTES: Final = 4096
COMPRESSIONS: Final = (None, "gzip")


def _fixed(file: Any) -> None:
    for compression in COMPRESSIONS:
        few = file.create_dataset(f"few {compression}", (600,), "i4", chunks=(1,), compression=compression)
        few[:300] = 1
        paged = file.create_dataset(f"paged {compression}", (70_000,), "i4", chunks=(1,), compression=compression)
        paged[5000], paged[69_999], paged[1030:1040] = 1, 2, 3
        flat = file.create_dataset(f"flat {compression}", (60, 60), "i4", chunks=(1, 1), compression=compression)
        flat[3:5] = 1


def _one_unlimited(file: Any) -> None:
    for compression in COMPRESSIONS:
        options = {"compression": compression, "dtype": "i4", "chunks": (1,), "maxshape": (None,)}
        for length in (3, 20, 200, 3000):  # in the index block, in data blocks, below super blocks
            file.create_dataset(f"{length} {compression}", data=np.ones(length, "i4"), **options)
        paged = file.create_dataset(f"paged {compression}", (500_000,), **options)
        paged[130_000], paged[499_999], paged[70_000:70_010] = 1, 2, 3
        options |= {"chunks": (2, 3), "maxshape": (None, 7)}
        file.create_dataset(f"flat {compression}", (600, 7), **options)[100:300] = 1


def _two_unlimited(file: Any) -> None:
    for compression in COMPRESSIONS:
        options = {"compression": compression, "dtype": "i4", "chunks": (1, 2), "maxshape": (None, None)}
        for length in (0, 5, 5000):
            file.create_dataset(f"{length} {compression}", (length, 2), **options)[:] = 1


@pytest.mark.parametrize(
    ("version", "fill", "kind"),
    [
        ("earliest", _fixed, "B-tree 1"),
        ("latest", _fixed, "fixed array"),
        ("latest", _one_unlimited, "extensible array"),
        ("v110", _one_unlimited, "extensible array"),
        ("latest", _two_unlimited, "B-tree 2"),
    ],
)
def test_indexes(tmp_path: Path, version: str, fill: Callable[[Any], None], kind: str) -> None:
    """How many chunks are stored, and what they take, is what h5py says, and takes few rounds of an index's parts."""
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w", libver=version) as file:
        fill(file)
    walked = Waves(path.read_bytes(), block_bytes=BLOCK_BYTES)
    found = walked.structure.objects
    assert {start: comparable(each) for start, each in found.items()} == objects_of(path)
    assert {index_of(each) for each in found.values()} == {None, kind}
    assert walked.structure.is_complete
    assert len(walked.waves) <= 8
