"""Files that h5py writes, drawn by Hypothesis: all forms of groups, links, attributes, types, layouts and indexes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5p, h5s, h5t
from hypothesis import strategies as st

# The oldest and the newest version of the library that are to read a file: they decide in which forms it is written.
_OLDEST, _NEWEST = h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST
VERSIONS: Final = {
    "default": (_OLDEST, _NEWEST),
    "earliest to 1.8": (_OLDEST, h5f.LIBVER_V18),
    "1.8": (h5f.LIBVER_V18, h5f.LIBVER_V18),
    "earliest to 1.10": (_OLDEST, h5f.LIBVER_V110),
    "1.10": (h5f.LIBVER_V110, h5f.LIBVER_V110),
    "1.12": (h5f.LIBVER_V112, h5f.LIBVER_V112),
    "1.14": (h5f.LIBVER_V114, h5f.LIBVER_V114),
    "2.0": (h5f.LIBVER_V200, h5f.LIBVER_V200),
    "latest": (_NEWEST, _NEWEST),
}
_STRUCTURED: Final = np.dtype([("time", "<f8"), ("name", "S5"), ("place", "<i2", (2, 3)), ("inner", [("x", ">u4")])])
TYPES: Final[dict[str, Any]] = {
    "i1": np.dtype("i1"),
    ">u2": np.dtype(">u2"),
    "<i8": np.dtype("<i8"),
    "f2": np.dtype("<f2"),
    ">f8": np.dtype(">f8"),
    "bool": np.dtype("?"),
    "S7": np.dtype("S7"),
    "opaque": np.dtype("V3"),
    "complex": np.dtype("c16"),
    "structured": _STRUCTURED,
    "array": np.dtype(("<i4", (2, 2))),
    "enum": h5py.enum_dtype({"RED": 0, "GREEN": 1, "A LONG NAME": -7}, "i2"),
    "text": h5py.string_dtype(),
    "ascii": h5py.string_dtype("ascii"),
    "fixed text": h5py.string_dtype(length=9),
    "sequence": h5py.vlen_dtype("<i4"),
    "object reference": h5py.ref_dtype,
    "region reference": h5py.regionref_dtype,
    "rows": np.dtype([("text", h5py.string_dtype()), ("number", "i4"), ("to", h5py.ref_dtype)]),
}
LINKED: Final[dict[str, Callable[[Any], Any]]] = {
    "soft": lambda file: h5py.SoftLink("/no/such/place"),
    "external": lambda file: h5py.ExternalLink("other.h5", "/a/b"),
    "root": lambda file: file["/"],
    "type": lambda file: _STRUCTURED,
}
FILTERS: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 4},
    "shuffle": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "scale": {"scaleoffset": 3},
}
NUMBERS: Final = frozenset({"i1", ">u2", "<i8"})


@dataclass(frozen=True)
class Data:
    """A dataset: how it is stored, of which type and shape, and how much of it is written."""

    storage: str
    type: str
    shape: tuple[int, ...]
    filters: str = "none"
    unlimited: int = 0
    written: bool = True


@dataclass(frozen=True)
class Node:
    """A group and what is in it. Attributes are by their types; `extra` is how many small ones there are besides."""

    children: dict[str, "Node | Data | str"] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    extra: int = 0
    large: bool = False


@dataclass(frozen=True)
class Sample:
    """A file: its content, and how it is written."""

    root: Node
    version: str = "default"
    track_order: bool = False
    userblock_bytes: int = 0
    sizes: tuple[int, int] = (8, 8)

    def write(self, path: Path) -> None:
        """Write it, anew."""
        access, creation = h5p.create(h5p.FILE_ACCESS), h5p.create(h5p.FILE_CREATE)
        access.set_libver_bounds(*VERSIONS[self.version])
        creation.set_userblock(self.userblock_bytes)
        creation.set_sizes(*self.sizes)
        if self.track_order:
            creation.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
            creation.set_attr_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
        with h5py.File(h5f.create(bytes(path), h5f.ACC_TRUNC, fcpl=creation, fapl=access)) as file:
            self._fill(file["/"], self.root)

    def _fill(self, group: Any, node: Node) -> None:
        for name, child in node.children.items():
            match child:
                case Node():
                    self._fill(group.create_group(name, track_order=self.track_order), child)
                case Data(storage="virtual") if VERSIONS[self.version][1] == h5f.LIBVER_V18:
                    pass  # 1.8 has no such datasets
                case Data():
                    WRITERS[child.storage](group, name, child)
                case str():
                    group[name] = LINKED[child](group.file)
                    if child == "type":
                        group.create_dataset(f"{name} used", (2,), dtype=group[name])
        for type_name in node.attributes:
            _set_attribute(group, f"attribute {type_name}", type_name)
        for number in range(node.extra):
            group.attrs[f"number {number}"] = number
        if node.large:
            group.attrs["large"] = np.zeros(20_000)


def _set_attribute(item: Any, name: str, type_name: str) -> None:
    datatype = h5t.py_create(TYPES[type_name], logical=True)
    made = h5a.create(item.id, name.encode(), datatype, h5s.create_simple((3,)))
    made.write(value_of(item, type_name, (3,)), mtype=h5t.py_create(TYPES[type_name]))


def value_of(item: Any, type_name: str, shape: tuple[int, ...]) -> Any:
    """Values of a type, of which the references lead to the root."""
    if type_name == "array":
        return np.zeros((*shape, 2, 2), "<i4")
    values = np.zeros(shape, TYPES[type_name])
    if type_name == "rows":
        values["text"], values["to"] = "some text", item.file["/"].ref
    if values.dtype.kind == "O":
        for place in np.ndindex(shape):
            values[place] = _one_object(item.file, type_name)
    return values


def _one_object(file: Any, type_name: str) -> Any:
    match type_name:
        case "sequence":
            return np.arange(5, dtype="<i4")
        case "object reference":
            return file["/"].ref
        case "region reference" if file.id.get_create_plist().get_sizes()[0] < 8:
            return h5py.RegionReference()  # others the HDF5 library writes at wrong places, where addresses are short
        case "region reference":
            return file.require_dataset("target of regions", (3,), "i4").regionref[:2]
    return "text" * 9


def _create(group: Any, name: str, data: Data, properties: Any, shape: Any, most: Any = None) -> Any:
    space = h5s.create_simple(shape, most) if shape else h5s.create(h5s.SCALAR)
    made = h5d.create(group.id, name.encode(), h5t.py_create(TYPES[data.type], logical=True), space, properties)
    dataset = h5py.Dataset(made)
    _write(dataset, data, shape)
    return dataset


def _write(dataset: Any, data: Data, shape: tuple[int, ...]) -> None:
    """Write elements from the first one on, as many as the shape has, if any are to be written."""
    if data.written and 0 not in shape:
        space = dataset.id.get_space()
        if shape:
            space.select_hyperslab((0,) * len(shape), shape)
        values = value_of(dataset, data.type, shape)
        memory = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
        dataset.id.write(memory, space, values, mtype=h5t.py_create(TYPES[data.type]))


def _options(data: Data) -> dict[str, Any]:
    """The filters that go with a type: not all do with each."""
    if data.filters == "gzip" or data.type in NUMBERS:
        return FILTERS[data.filters]
    return {} if data.filters == "scale" or TYPES[data.type].hasobject else FILTERS[data.filters]


def _write_contiguous(group: Any, name: str, data: Data) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    _create(group, name, data, properties, data.shape).attrs["unit"] = "V"


def _write_compact(group: Any, name: str, data: Data) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_layout(h5d.COMPACT)
    _create(group, name, data, properties, data.shape)


def _write_chunked(group: Any, name: str, data: Data) -> None:
    shape = data.shape or (4,)
    has_unlimited = group.file.id.get_create_plist().get_sizes()[1] == 8  # else the HDF5 library loses it
    unlimited = data.unlimited if has_unlimited else 0
    most = tuple(None if axis < unlimited else length + 2 for axis, length in enumerate(shape))
    options = _options(data)
    chunks = tuple(max(1, length // 3) for length in shape)
    dataset = group.create_dataset(name, shape, TYPES[data.type], chunks=chunks, maxshape=most, **options)
    _write(dataset, data, (min(shape[0], max(1, shape[0] // 2)), *shape[1:]))


def _write_single(group: Any, name: str, data: Data) -> None:
    shape = tuple(max(1, length) for length in data.shape or (4,))
    options = _options(data)
    dataset = group.create_dataset(name, shape, TYPES[data.type], chunks=shape, **options)
    _write(dataset, data, shape)


def _write_implicit(group: Any, name: str, data: Data) -> None:
    shape = tuple(max(1, length) for length in data.shape or (4,))
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk(tuple(max(1, length // 2) for length in shape))
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    _create(group, name, data, properties, shape, shape)


def _write_null(group: Any, name: str, data: Data) -> None:
    group.create_dataset(name, data=h5py.Empty(TYPES[data.type]))


def _write_virtual(group: Any, name: str, data: Data) -> None:
    layout = h5py.VirtualLayout((4, 6), "f4")
    layout[0] = h5py.VirtualSource("elsewhere.h5", "data", (6,), "f4")
    group.create_virtual_dataset(name, layout)


def _write_external(group: Any, name: str, data: Data) -> None:
    group.create_dataset(name, (10,), "i4", external=[("raw.bin", 0, 40)])


WRITERS: Final[dict[str, Callable[[Any, str, Data], None]]] = {
    "contiguous": _write_contiguous,
    "compact": _write_compact,
    "chunked": _write_chunked,
    "single": _write_single,
    "implicit": _write_implicit,
    "null": _write_null,
    "virtual": _write_virtual,
    "external": _write_external,
}
names = st.one_of(
    st.sampled_from(["a", "units", "spike_times", "ä name", "x" * 300]),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/."), min_size=1, max_size=8),
)
datasets = st.builds(
    Data,
    storage=st.sampled_from(sorted(WRITERS)),
    type=st.sampled_from(sorted(TYPES)),
    shape=st.lists(st.integers(0, 7), max_size=3).map(tuple),
    filters=st.sampled_from(sorted(FILTERS)),
    unlimited=st.integers(0, 2),
    written=st.booleans(),
)
leaves = st.one_of(datasets, datasets, st.sampled_from(sorted(LINKED)))


def nodes(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Node]:
    """Groups of such children: few, or so many that they need a heap or a tree of several nodes."""
    return st.builds(
        Node,
        children=st.dictionaries(names, children, max_size=12),
        attributes=st.lists(st.sampled_from(sorted(TYPES)), max_size=4, unique=True).map(tuple),
        extra=st.sampled_from([0, 1, 9, 40]),
        large=st.just(False),
    )


samples = st.builds(
    Sample,
    root=nodes(st.recursive(leaves, nodes, max_leaves=12)),
    version=st.sampled_from(sorted(VERSIONS)),
    track_order=st.booleans(),
    userblock_bytes=st.sampled_from([0, 0, 512, 4096]),
    sizes=st.sampled_from([(8, 8), (8, 8), (4, 4), (8, 4), (4, 8)]),
)
