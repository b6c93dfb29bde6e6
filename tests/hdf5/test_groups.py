"""Groups and attributes that are so many or so large that they do not fit into a header or a node."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.hdf5.running import Waves
from tests.hdf5.truth import comparable, objects_of

BLOCK_BYTES = 4096


def _fill(file: Any, *, has_large: bool) -> None:
    many = file.create_group("many")
    for number in range(1800):
        many[f"{number:04d}" + "n" * 300] = h5py.SoftLink("/x")  # 0.6 MB of links: indirect blocks in indirect ones
    deep = file.create_group("deep")
    for number in range(300):
        deep.create_group(f"group {number}")
    for number in range(60):
        deep.attrs[f"attribute {number}"] = f"text {number}" * 20
    deep.attrs["long"] = "long text" * 5000  # in a collection of the global heap that is larger than others
    if has_large:
        many.attrs["large"] = np.zeros(20_000)
        many.attrs["larger"] = np.ones(40_000)


@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_many_links_and_attributes(tmp_path: Path, version: str, track_order: bool) -> None:
    """Thousands of links, dozens of attributes, and those of 320 kB are found as h5py finds them, in 6 rounds."""
    path = tmp_path / "groups.h5"
    with h5py.File(path, "w", libver=version, track_order=track_order) as file:
        _fill(file, has_large=version == "latest")
    walked = Waves(path.read_bytes(), block_bytes=BLOCK_BYTES)
    found = walked.structure.objects
    assert {start: comparable(each) for start, each in found.items()} == objects_of(path)
    assert walked.structure.is_complete
    assert len(walked.waves) <= 6
