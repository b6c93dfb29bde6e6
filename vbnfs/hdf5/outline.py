"""An outline of an HDF5 file, as values: its objects in order, what they take, and how much of that is cached (pure).

docs/outline.md describes the JSON.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import Any, Final

from vbnfs.hdf5.coverage import Coverage
from vbnfs.hdf5.found_file import Hdf5File
from vbnfs.hdf5.structure import (
    Attribute,
    Chunked,
    Compact,
    Contiguous,
    Dataset,
    Datatype,
    Elsewhere,
    ExternalLink,
    Group,
    HardLink,
    Link,
    Object,
    Reference,
    SoftLink,
    Value,
)
from vbnfs.hdf5.words import filter_name, type_name
from vbnfs.objects import ByteRange


@dataclass(frozen=True, slots=True)
class Stored:
    """How many bytes something takes in the file, and how many of these are cached. `is_whole`: all is known."""

    size_bytes: int = 0
    cached_bytes: int = 0
    is_whole: bool = True

    def __add__(self, other: "Stored") -> "Stored":
        return Stored(
            self.size_bytes + other.size_bytes,
            self.cached_bytes + other.cached_bytes,
            self.is_whole and other.is_whole,
        )


_NOTHING: Final = Stored()


@dataclass(frozen=True, slots=True)
class Item:
    """A name in the outline, and the object that it leads to, if it stands here.

    `lasts` says of each name on the way from the top to this one whether it is the last of its group. `same_as` is
    the path at which an object stands that has several names. `stored` of a group is that of all objects below it.
    `more` than 0 stands for so many names of a group that are left out.
    """

    path: str
    name: str
    lasts: tuple[bool, ...]
    link: Link
    found: Object | None = None
    stored: Stored = _NOTHING
    same_as: str | None = None
    more: int = 0


@dataclass(frozen=True)
class Outline:
    """The outline of a file from the object that was asked for on. Each object stands once: at a shortest path."""

    file: Hdf5File
    _stored: dict[int, Stored] = field(default_factory=dict)

    @cached_property
    def top(self) -> str:
        """The path of the object that was asked for."""
        return f"/{'/'.join(self.file.object_path)}"

    @cached_property
    def paths(self) -> Mapping[int, str]:
        """The paths of objects by the byte at which their headers begin."""
        return {start: path for path, start in self.file.structure.paths(self.file.start, self.top)}

    def items(self, *, depth: int | None = None, most: int = 0, first: int = 0) -> Iterator[Item]:
        """The names in order, a group's behind it, `depth` levels below the top; `most` of each group (0: all).

        Of the top group they begin with the one whose place in the order, from 0 on, is `first`.
        """
        name = self.file.object_path[-1] if self.file.object_path else "/"
        yield from self._item(Item(self.top, name, (), HardLink(self.file.start)), depth, most, first)

    def _item(self, item: Item, depth: int | None, most: int, first: int = 0) -> Iterator[Item]:
        start = item.link.start if isinstance(item.link, HardLink) else None
        found = None if start is None else self.file.structure.objects.get(start)
        if found is None or start is None:
            yield item
        elif self.paths[start] != item.path:
            yield replace(item, same_as=self.paths[start])
        else:
            yield replace(item, found=found, stored=self.stored(start))
            if isinstance(found, Group) and (depth is None or len(item.lasts) < depth):
                yield from self._members(found, item, depth, most, first)

    def _members(self, group: Group, above: Item, depth: int | None, most: int, first: int) -> Iterator[Item]:
        names = sorted(group.links)[first:]
        shown = names[:most] if most else names
        for name in shown:
            lasts = (*above.lasts, name == names[-1])
            yield from self._item(Item(_join(above.path, name), name, lasts, group.links[name]), depth, most)
        if more := len(names) - len(shown):
            yield Item(above.path, "", (*above.lasts, True), above.link, more=more)

    def stored(self, start: int) -> Stored:
        """What an object takes; of a group, all that stands below it."""
        if start not in self._stored:
            found = self.file.structure.objects[start]
            if isinstance(found, Group):
                total = Stored()
                for name, link in found.links.items():
                    total += self._stored_at(_join(self.paths[start], name), link)
                self._stored[start] = total
            else:
                self._stored[start] = stored_of(found, self.file.coverage)
        return self._stored[start]

    def _stored_at(self, path: str, link: Link) -> Stored:
        if not isinstance(link, HardLink):
            return Stored()
        if link.start not in self.file.structure.objects:
            return Stored(is_whole=False)
        return self.stored(link.start) if self.paths[link.start] == path else Stored()

    def plain(self, value: Value) -> Any:  # noqa: PLR0911 - one for each kind of value
        """A value of an attribute as JSON has it."""
        match value:
            case float() if not isfinite(value):
                return str(value)  # which JSON has no numbers for
            case complex():
                return [self.plain(value.real), self.plain(value.imag)]
            case bytes():
                return {"hex": value.hex()}
            case Reference(start, is_region):
                path = None if start is None else self.paths.get(start)
                return {"reference": path, "start": start, "is_region": is_region}
            case list():
                return [self.plain(one) for one in value]
            case dict():
                return {name: self.plain(one) for name, one in value.items()}
        return value

    def as_json(self, *, depth: int | None = None) -> dict[str, Any]:
        """All of it, as docs/outline.md describes it."""
        file = self.file
        return {
            "file": file.name,
            "object": self.top,
            "size_bytes": file.size_bytes,
            "cached_bytes": file.coverage.cached_bytes if file.is_of_dataset else None,
            "is_of_dataset": file.is_of_dataset,
            "is_complete": file.structure.is_complete,
            "left_out": dict(file.structure.unparsed),
            "objects": [self._item_as_json(item) for item in self.items(depth=depth)],
        }

    def _item_as_json(self, item: Item) -> dict[str, Any]:
        named = {"path": item.path}
        match item:
            case Item(link=SoftLink(path)):
                return {**named, "kind": "soft link", "target": path}
            case Item(link=ExternalLink(file, path)):
                return {**named, "kind": "external link", "target": path, "file": file}
            case Item(same_as=str(path)):
                return {**named, "kind": "hard link", "target": path}
            case Item(found=None):
                return {**named, "kind": "not read"}
        assert item.found is not None
        values = {name: self._attribute_as_json(one) for name, one in sorted(item.found.values.items())}
        attributes = {"attributes": sorted(item.found.attributes), **({"values": values} if values else {})}
        return {**named, **_object_as_json(item.found), **self._stored_as_json(item.stored), **attributes}

    def _stored_as_json(self, stored: Stored) -> dict[str, Any]:
        is_of_dataset = self.file.is_of_dataset
        return {
            "stored_bytes": stored.size_bytes if stored.is_whole else None,
            "cached_bytes": stored.cached_bytes if stored.is_whole and is_of_dataset else None,
        }

    def _attribute_as_json(self, one: Attribute) -> dict[str, Any]:
        shape = None if one.shape is None else list(one.shape)
        return {
            "dtype": type_name(one.datatype),
            "shape": shape,
            "value": self.plain(one.value),
            "is_cut": one.is_cut,
        }


def _join(above: str, name: str) -> str:
    return f"{above.rstrip('/')}/{name}"


def places_of(found: Object) -> tuple[ByteRange, ...] | None:
    """The bytes of the file that a dataset's data take; None where that is not known. Compact data take none."""
    layout = found.layout if isinstance(found, Dataset) else None
    match layout:
        case Contiguous(start, storage_bytes) if start is not None:
            return (ByteRange(start, start + storage_bytes),)
        case Chunked():
            return () if layout.start is None else layout.places
        case None if isinstance(found, Dataset):
            return None
    return ()


def stored_of(found: Object, coverage: Coverage) -> Stored:
    """What the data of an object take. Those in its header are cached as that was read."""
    layout = found.layout if isinstance(found, Dataset) else None
    if isinstance(layout, Compact):
        return Stored(layout.storage_bytes, layout.storage_bytes)
    places = places_of(found)
    if places is None:
        return Stored(is_whole=False)
    size_bytes = layout.storage_bytes if isinstance(layout, Contiguous | Chunked) else 0
    return Stored(size_bytes or 0, coverage.bytes_of(places))


def _object_as_json(found: Object) -> dict[str, Any]:
    if isinstance(found, Group):
        return {"kind": "group", "members": len(found.links)}
    typed = {"dtype": type_name(found.datatype), "datatype": _datatype_as_json(found.datatype)}
    if not isinstance(found, Dataset):
        return {"kind": "datatype", **typed}
    return {
        "kind": "dataset",
        "shape": None if found.shape is None else list(found.shape),
        "maxshape": None if found.most is None else list(found.most),
        **typed,
        **_layout_as_json(found),
        "filters": [
            {"number": one.number, "name": filter_name(one), "values": list(one.values)} for one in found.filters
        ],
    }


def _layout_as_json(found: Dataset) -> dict[str, Any]:
    match found.layout:
        case Contiguous(start, _):
            return {"layout": "contiguous", "start": start}
        case Compact():
            return {"layout": "compact"}
        case Chunked(shape, index, _, chunks, _):
            return {"layout": "chunked", "chunk_shape": list(shape), "index": index, "chunks": chunks}
        case Elsewhere(kind):
            return {"layout": kind}
    return {"layout": None}


def _datatype_as_json(datatype: Datatype | None) -> dict[str, Any] | None:
    """A type with what it has; fields that say nothing of this one are left out."""
    if datatype is None:
        return None
    parts: dict[str, Any] = {name: value for name, value in asdict(datatype).items() if value}
    if datatype.base is not None:
        parts["base"] = _datatype_as_json(datatype.base)
    if datatype.members:
        parts["members"] = [
            {"name": one.name, "offset_bytes": one.offset_bytes, "datatype": _datatype_as_json(one.datatype)}
            for one in datatype.members
        ]
    return parts
