"""HDF5 files for the tests of `vbnfs tree` and `vbnfs map`: one with a bit of everything, and one that is larger."""

from pathlib import Path
from typing import Final

import h5py
import numpy as np

from tests.hdf5.truth import joined

MIB: Final = 1 << 20
LARGE: Final = {"units/times": 3 * MIB, "units/waves": 2 * MIB, "acquisition/running": MIB, "last": MIB // 2}
_CHUNK_BYTES: Final = 100_000


def undescribed(found: object) -> set[str]:
    """The names of fields of a JSON value, at any depth, that docs/outline.md does not explain."""
    text = (Path(__file__).parents[2] / "docs" / "outline.md").read_text(encoding="utf-8")
    if isinstance(found, list):
        return set[str]().union(*map(undescribed, found))
    if isinstance(found, dict):
        inner = set[str]().union(*map(undescribed, (value for name, value in found.items() if name != "left_out")))
        return {name for name in found if f"`{name}`" not in text} | inner
    return set()


def write_example(path: Path) -> None:
    """A file of a few kB: every kind of link, of storage and of type, and a name that would drive a terminal."""
    rows = np.dtype([("time", "<f8"), ("name", "S5")])
    with h5py.File(path, "w") as file:
        units = file.create_group("units")
        options = {"chunks": (100,), "compression": "gzip", "compression_opts": 4, "shuffle": True}
        units.create_dataset("times", data=np.zeros(1000), maxshape=(None,), **options).attrs["unit"] = "s"
        units.create_dataset("rows", data=np.zeros(3, rows))
        units.create_dataset("names", data=["a", "b"], dtype=h5py.string_dtype())
        units["again"], units["up"] = units["times"], file["/"]
        units.attrs["colour"], units.attrs["to"] = np.float64(np.nan), units["rows"].ref
        file["kind"] = h5py.enum_dtype({"RED": 0, "GREEN": 1}, "i1")
        file["soft"], file["lost"] = h5py.SoftLink("/units/times"), h5py.SoftLink("loop")
        file["loop"], file["short"] = h5py.SoftLink("/lost"), h5py.SoftLink("units")
        file["outside"] = h5py.ExternalLink("other.h5", "/x")
        file.create_dataset("scalar", data=np.int32(7))
        file.create_dataset("none", data=h5py.Empty(">i2"))
        file.create_dataset("raw", (10,), "i4", external=[("raw.bin", 0, 40)])
        file.create_group("deep/er/still").create_dataset("flag", data=[True, False])
        file.create_group("\x1b[2J\r evil")


def large_example(path: Path) -> bytes:
    """A file of some MiB: random bytes in two groups and at the top, as `LARGE` says; one array is in chunks."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, size_bytes in LARGE.items():
            options = {"chunks": (_CHUNK_BYTES,), "compression": 1} if name == "acquisition/running" else {}
            data = np.random.default_rng(1).integers(0, 256, size_bytes, "u1", endpoint=False)
            file.create_dataset(name, data=data, **options)
    return path.read_bytes()


def places_of(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Where the data of datasets are by h5py: first bytes, and those behind the last; adjacent ones joined."""
    found: dict[str, list[tuple[int, int]]] = {}
    with h5py.File(path) as file:
        for name in LARGE:
            item = file[name].id
            count = item.get_num_chunks() if file[name].chunks else 0
            chunks = [item.get_chunk_info(number) for number in range(count)]
            places = [(one.byte_offset, one.byte_offset + one.size) for one in chunks]
            found[f"/{name}"] = joined(places) or [(item.get_offset(), item.get_offset() + item.get_storage_size())]
    return found
