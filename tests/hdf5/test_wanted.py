"""What a walk finds when it is asked for more than where things are, or for a part of a file alone."""

import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5o
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hdf5.running import Waves
from tests.hdf5.samples import TYPES, VERSIONS, Sample, samples, value_of
from tests.hdf5.truth import joined
from tests.hdf5.values import comparable, of_h5py
from vbnfs.hdf5.branches import Wanted
from vbnfs.hdf5.structure import Attribute, Chunked, Contiguous, Dataset, Group
from vbnfs.hdf5.words import type_name

BLOCK_BYTES = 1024


def places_by_h5py(item: Any) -> list[tuple[int, int]]:
    infos = [item.id.get_chunk_info(number) for number in range(item.id.get_num_chunks())]
    return joined([(info.byte_offset, info.byte_offset + info.size) for info in infos])


def by_address(path: Path) -> dict[int, Any]:
    """What h5py says of all datasets, by the byte at which their headers begin."""
    found: dict[int, Any] = {}
    with h5py.File(path) as file:
        start = file.userblock_size

        def add(_: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.chunks and item.shape is not None:
                found[start + int(h5o.get_info(item.id).addr)] = places_by_h5py(item)

        file.visititems(add)
    return found


@settings(
    max_examples=max(1, settings.default.max_examples // 8),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(samples)
def test_where_chunks_are(sample: Sample) -> None:
    """The bytes that chunks take are those that h5py names, and nothing else of what is found changes by asking."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        sample.write(path)
        truth, data = by_address(path), path.read_bytes()
    found = Waves(data, wanted=Wanted(places=True)).structure
    assert found.end == len(data)
    for start, chunks in truth.items():
        layout = found.objects[start].layout  # type: ignore[union-attr]
        assert isinstance(layout, Chunked)
        assert [(one.start, one.stop) for one in layout.places or ()] == chunks
        assert sum(map(len, layout.places or ())) == layout.storage_bytes
    assert found.blocks == Waves(data).structure.blocks


@pytest.fixture(params=sorted(VERSIONS))
def valued(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with an attribute of each type, in a header and where there are many."""
    path = tmp_path / "values.h5"
    low, high = VERSIONS[request.param]
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(low, high)
    with h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, fapl=access)) as file:
        for item in (file, file.create_group("many")):
            for name, datatype in TYPES.items():
                item.attrs.create(name, value_of(item, name, (2,)), dtype=datatype)
            item.attrs["number"], item.attrs["text"] = np.float32(-1.5), "some täxt"
            item.attrs["none"], item.attrs["grid"] = h5py.Empty("f4"), np.arange(6, dtype=">i2").reshape(2, 3)
            item.attrs["texts"], item.attrs["yes"] = ["a", "", "b" * 5000], True
            item.attrs["reals"] = [np.nan, np.inf, -0.0, 5e-324]
    return path


def test_values_of_attributes(valued: Path) -> None:
    """Values are those that h5py reads: numbers, texts, lists, enums by name, rows, references."""
    found = Waves(valued.read_bytes(), block_bytes=BLOCK_BYTES, wanted=Wanted(values=True)).structure
    assert found.is_complete, found.unparsed
    objects = dict(found.walk())
    with h5py.File(valued) as file:
        for path in ("/", "/many"):
            values = objects[path].values
            assert values.keys() == set(file[path].attrs) == objects[path].attributes
            for name, one in values.items():
                check_value(name, one, file[path].attrs)


def check_value(name: str, one: Attribute, attributes: Any) -> None:
    if name == "enum":  # h5py gives numbers
        assert one.value == ["RED", "RED"]
        return
    truth = of_h5py(attributes[name])
    if name == "reals":
        assert repr(one.value) == repr(truth)
        return
    assert comparable(one.value) == truth, name
    shape = attributes.get_id(name).shape
    assert one.shape == (None if name == "none" else shape), name


def test_long_values_are_cut(tmp_path: Path) -> None:
    """Of more than a thousand elements the first thousand are given, as a list; what they refer to may be lost."""
    path = tmp_path / "long.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["long"] = np.arange(4000.0).reshape(4, 1000)
        file.attrs["text"] = "t" * 100
    data = path.read_bytes()
    attributes = dict(Waves(data, wanted=Wanted(values=True)).structure.walk())["/"].values
    assert (attributes["long"].shape, attributes["long"].is_cut) == ((4, 1000), True)
    assert attributes["long"].value == [float(number) for number in range(1000)]
    heap = data.index(b"GCOL")
    broken = data[:heap] + b"????" + data[heap + 4 :]
    found = Waves(broken, wanted=Wanted(values=True)).structure
    assert dict(found.walk())["/"].values["text"].value is None
    assert found.unparsed.keys() == {"global heap"}


@settings(
    max_examples=max(1, settings.default.max_examples // 8),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(samples, st.data())
def test_a_part_of_a_file(sample: Sample, data: st.DataObject) -> None:
    """Below a path the same is found as in a walk of all of the file, and of the rest what leads there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        sample.write(path)
        content = path.read_bytes()
    whole = Waves(content).structure
    at, start = data.draw(st.sampled_from(sorted(whole.paths())))
    names = tuple(name for name in at.split("/") if name)
    part = Waves(content, wanted=Wanted(path=names)).structure
    below = dict(whole.paths(start, at))
    assert dict(part.paths(start, at)) == below
    assert all(part.objects[one] == whole.objects[one] for one in below.values())
    assert len(part.objects) <= len(below) + len(names)
    assert part.is_complete


def test_a_part_of_a_large_file_costs_its_part(tmp_path: Path) -> None:
    """Of groups beside the path no block is asked for, in old groups and in new ones."""
    for libver in ("earliest", "latest"):
        path = tmp_path / f"{libver}.h5"
        with h5py.File(path, "w", libver=libver) as file:
            for number in range(6):
                for member in range(20):
                    file.create_dataset(f"group {number}/data {member}", data=np.zeros(5000, "u1")).attrs["unit"] = (
                        "V"
                    )
        data = path.read_bytes()
        whole = Waves(data, block_bytes=BLOCK_BYTES).asked
        part = Waves(data, block_bytes=BLOCK_BYTES, wanted=Wanted(path=("group 3",)))
        assert len(part.asked) * 2 < len(whole)
        assert len([found for found in part.structure.objects.values() if isinstance(found, Dataset)]) == 20
        assert len([found for found in part.structure.objects.values() if isinstance(found, Group)]) == 2


def test_a_part_that_leads_back(tmp_path: Path) -> None:
    """A group that leads to one above it leads to all of that."""
    path = tmp_path / "cycle.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("beside/data", data=[1])
        file.create_group("a/b")
        file["a/b/up"], file["a/b/root"] = file["a"], file["/"]
    found = Waves(path.read_bytes(), wanted=Wanted(path=("a", "b"))).structure
    paths = dict(found.paths(dict(Waves(path.read_bytes()).structure.paths())["/a/b"], "/a/b"))
    assert paths.keys() == {"/a/b", "/a/b/up", "/a/b/root", "/a/b/root/beside", "/a/b/root/beside/data"}


@pytest.mark.parametrize(
    ("datatype", "name"),
    [
        ("<f2", "float16"),
        (">f8", ">f8"),
        ("?", "bool"),
        ("u1", "uint8"),
        (">i4", ">i4"),
        ("c8", "complex64"),
        (">c16", ">c16"),
        ("S7", "S7"),
        ("V3", "V3"),
        (np.dtype("longdouble"), "float128"),
        (h5py.opaque_dtype(np.dtype("<M8[ns]")), "<M8[ns]"),
        (h5py.string_dtype(), "text"),
        (h5py.vlen_dtype(">u2"), "list of >u2"),
        (h5py.ref_dtype, "object reference"),
        (h5py.regionref_dtype, "region reference"),
        (np.dtype(("<i4", (2, 3))), "int32[2, 3]"),
        (h5py.enum_dtype({"A": 0, "B": -7}, "i2"), "enum int16 {A: 0, B: -7}"),
        (np.dtype([("t", "<f8"), ("inner", [("x", ">u4")])]), "{t: float64, inner: {x: >u4}}"),
    ],
)
def test_types_have_numpys_names(tmp_path: Path, datatype: Any, name: str) -> None:
    """Types that NumPy has are named as `numpy.dtype` takes them; others in plain words."""
    with h5py.File(tmp_path / "type.h5", "w") as file:
        file.create_dataset("data", (3,), datatype)
    [data] = [each for path, each in Waves((tmp_path / "type.h5").read_bytes()).structure.walk() if path == "/data"]
    assert isinstance(data, Dataset)
    assert isinstance(data.layout, Contiguous)
    assert type_name(data.datatype) == name
    is_numpys = not any(mark in name for mark in " {[") and name != "text"
    assert not is_numpys or np.dtype(name) == np.dtype(datatype)


def test_a_float_that_numpy_lacks() -> None:
    """A bfloat16 is not called float16."""
    with h5py.File.in_memory() as file:
        datatype = h5py.h5t.IEEE_F16LE.copy()
        datatype.set_fields(15, 7, 8, 0, 7)
        datatype.set_ebias(127)
        space = h5py.h5s.create_simple((2,))
        h5py.h5d.create(file.id, b"data", datatype, space)
        file.flush()
        data = file.id.get_file_image()
    [found] = [each for path, each in Waves(data).structure.walk() if path == "/data"]
    assert isinstance(found, Dataset)
    assert type_name(found.datatype) == "bfloat16"
