"""Attributes: names, values if these are wanted, what they refer to; and those that stand in a fractal heap."""

from functools import partial
from typing import Final

from vbnfs.hdf5.branches import Branch, File
from vbnfs.hdf5.datatypes import pointers
from vbnfs.hdf5.drafts import Draft
from vbnfs.hdf5.heaps import open_dense, read_object, touch_collection
from vbnfs.hdf5.messages import Dense, Type, read_attribute, read_dataspace
from vbnfs.hdf5.shared import read_shared, read_shared_object
from vbnfs.hdf5.structure import Attribute, Datatype
from vbnfs.hdf5.values import read_values

_HEAP_ID_BYTES: Final = 8  # with which the records of both B-trees begin
_SHARED: Final = 2
_MOST_POINTERS: Final = 1000


def open_dense_attributes(file: File, draft: Draft, dense: Dense) -> None:
    """Have the attributes read that have no room in a header."""
    open_dense(file, dense, partial(_read_dense_attribute, file, draft))


def _read_dense_attribute(file: File, draft: Draft, heap: int, record: bytes) -> Branch[None]:
    fields = file.fields(record, "attribute")
    heap_id = fields.take(_HEAP_ID_BYTES)
    if fields.number(1) & _SHARED:
        body = yield from read_shared_object(file, Type.ATTRIBUTE, heap_id)
    else:
        body = yield from read_object(file, heap, heap_id)
    yield from add_attribute(file, draft, body)


def add_attribute(file: File, draft: Draft, body: bytes) -> Branch[None]:
    """Add the attribute that a message describes, and have the global heap fetched that its value refers to."""
    attribute = read_attribute(file.fields(body, "attribute"))
    file.keep(len(attribute.name))
    draft.attributes.add(attribute.name)
    datatype = file.datatype((yield from read_shared(file, attribute.datatype)))
    touch_values(file, datatype, attribute.value)
    if file.wanted.values:
        space = read_dataspace(file.fields((yield from read_shared(file, attribute.dataspace)), "dataspace"))
        draft.values[attribute.name] = Attribute(datatype, space.shape, None)
        draft.values[attribute.name] = yield from read_values(file, datatype, space.shape, attribute.value)


def touch_values(file: File, datatype: Datatype, value: bytes) -> None:
    """Have the collections of the global heap fetched that elements refer to, of so many as are given."""
    starts = pointers(datatype, _MOST_POINTERS)
    for element in range(0, len(value), max(1, datatype.size_bytes)) if starts else ():
        for start in starts:
            fields = file.fields(value, "attribute", element + start)
            if fields.left >= file.sizes.address_bytes:
                touch_collection(file, fields.address() or None)  # of an empty text it is 0
