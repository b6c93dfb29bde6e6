"""Objects from their headers, and the superblock that leads to the first one (specification, II.A to II.C, IV.A)."""

from array import array
from collections.abc import Callable
from typing import Final

from vbnfs.hdf5.attributes import add_attribute, open_dense_attributes, touch_values
from vbnfs.hdf5.branches import Branch, File, Need, NodeWidths
from vbnfs.hdf5.chunks import Index
from vbnfs.hdf5.datatypes import may_refer
from vbnfs.hdf5.drafts import Draft
from vbnfs.hdf5.fields import Sizes, UnparsableError
from vbnfs.hdf5.groups import SymbolTable, add_link, open_dense_links, open_symbols, read_symbols, visit_symbol
from vbnfs.hdf5.headers import Form, read_first_chunk, read_header, read_next_chunk
from vbnfs.hdf5.heaps import touch_collection, touch_segment
from vbnfs.hdf5.layouts import ChunkedLayout, CompactLayout, ContiguousLayout, VirtualLayout, read_layout
from vbnfs.hdf5.messages import Message, Type, read_attribute_info, read_dataspace, read_filters, read_link_info
from vbnfs.hdf5.shared import read_shared
from vbnfs.hdf5.signature import SIGNATURE, STARTS
from vbnfs.hdf5.structure import Datatype

_SUPERBLOCK: Final = "superblock"
_SUPERBLOCK_BYTES: Final = 256
_MOST_FIRST_BYTES: Final = 64 << 10
_SIZES: Final = {2, 4, 8}


def open_file(file: File) -> Branch[None]:
    """Find the superblock, and have everything read that hangs on it."""
    for start in STARTS:
        if (data := (yield Need(start, _SUPERBLOCK_BYTES))).startswith(SIGNATURE):
            break
    else:
        raise UnparsableError(_SUPERBLOCK)
    file.base = start
    file.touch("tail", file.size_bytes - start - 1, 1)  # where the library writes what it has kept back to the last
    version = file.fields(data, _SUPERBLOCK, len(SIGNATURE)).number(1)
    if version in {0, 1}:
        _open_first(file, data, version)
    elif version in {2, 3}:
        _open_second(file, data)
    else:
        raise UnparsableError(_SUPERBLOCK)


def _open_first(file: File, data: bytes, version: int) -> None:
    fields = file.fields(data, _SUPERBLOCK, len(SIGNATURE) + 5)
    file.sizes = _sizes(fields.number(1), fields.number(1))
    fields = file.fields(data, _SUPERBLOCK, fields.position + 1)
    symbols, groups = fields.number(2), fields.number(2)
    fields.skip(4)
    chunks = fields.number(2) if version == 1 else NodeWidths().chunks
    fields.skip(2 if version == 1 else 0)
    file.widths = NodeWidths(symbols, groups, chunks)
    fields.skip(2 * file.sizes.address_bytes)
    file.end = fields.address()
    fields.address()
    [root] = read_symbols(file, data, fields.position, 1)
    file.root = root.header
    visit_symbol(file, root, 0)


def _open_second(file: File, data: bytes) -> None:
    fields = file.fields(data, _SUPERBLOCK, len(SIGNATURE) + 1)
    file.sizes = _sizes(fields.number(1), fields.number(1))
    fields = file.fields(data, _SUPERBLOCK, fields.position + 1)
    fields.address()
    file.extension = fields.address()
    file.end = fields.address()
    file.root = fields.required()
    file.visit(file.root, 0)
    if file.extension is not None:
        file.spawn(_read_extension(file, file.extension))


def _sizes(address_bytes: int, length_bytes: int) -> Sizes:
    if address_bytes not in _SIZES or length_bytes not in _SIZES:
        raise UnparsableError(_SUPERBLOCK)
    return Sizes(address_bytes, length_bytes)


def _read_extension(file: File, address: int) -> Branch[None]:
    for message in (yield from read_header(file, address)):
        if message.type == Type.TREE_K:
            fields = file.fields(message.body, _SUPERBLOCK)
            fields.expect(b"\0")
            chunks, groups, symbols = fields.number(2), fields.number(2), fields.number(2)
            file.widths = NodeWidths(symbols, groups, chunks)


def open_object(file: File, draft: Draft) -> Branch[None]:
    """Read the header of an object, and have everything read that hangs on it."""
    draft.pending += 1
    form, messages = yield from read_first_chunk(file, draft.address)
    _take_chunk(file, draft, form, messages)


def _read_on(file: File, draft: Draft, form: Form, message: Message) -> Branch[None]:
    messages = yield from read_next_chunk(file, form, message)
    _take_chunk(file, draft, form, messages)


def _take_chunk(file: File, draft: Draft, form: Form, messages: list[Message]) -> None:
    for message in messages:
        if message.type == Type.CONTINUATION:
            if file.enters("continuation", int.from_bytes(message.body, "little")):
                draft.pending += 1
                file.spawn(_read_on(file, draft, form, message))
        elif message.type in _TAKE:
            draft.pending += 1
            file.spawn(_take_message(file, draft, message))
    _finish_part(file, draft)


def _take_message(file: File, draft: Draft, message: Message) -> Branch[None]:
    _TAKE[message.type](file, draft, (yield from read_shared(file, message)))
    _finish_part(file, draft)


def _take_dataspace(file: File, draft: Draft, body: bytes) -> None:
    draft.dataspace = read_dataspace(file.fields(body, "dataspace"))


def _take_datatype(file: File, draft: Draft, body: bytes) -> None:
    draft.datatype = file.datatype(body)


def _take_filters(file: File, draft: Draft, body: bytes) -> None:
    draft.filters = read_filters(file.fields(body, "filters"))


def _take_group(file: File, draft: Draft, body: bytes) -> None:
    draft.is_group = True


def _take_link_info(file: File, draft: Draft, body: bytes) -> None:
    draft.is_group = True
    open_dense_links(file, draft, read_link_info(file.fields(body, "link")))


def _take_symbols(file: File, draft: Draft, body: bytes) -> None:
    fields = file.fields(body, "symbol table")
    open_symbols(file, draft, SymbolTable(fields.required(), fields.required()))


def _take_attribute(file: File, draft: Draft, body: bytes) -> None:
    file.spawn(add_attribute(file, draft, body))


def _take_attribute_info(file: File, draft: Draft, body: bytes) -> None:
    open_dense_attributes(file, draft, read_attribute_info(file.fields(body, "attribute")))


def _take_external_files(file: File, draft: Draft, body: bytes) -> None:
    draft.is_external = True
    fields = file.fields(body, "external files")
    fields.skip(8)
    file.spawn(touch_segment(file, fields.required()))


def _places(file: File) -> "array[int] | None":
    return array("Q") if file.wanted.places else None


def _take_layout(file: File, draft: Draft, body: bytes) -> None:
    draft.layout = read_layout(file.fields(body, "layout"))
    match draft.layout:
        case ChunkedLayout():
            draft.index.places = _places(file)
            Index(file, draft.layout, draft.index).open()
        case VirtualLayout(address):
            touch_collection(file, address)


_TAKE: Final[dict[int, Callable[[File, Draft, bytes], None]]] = {
    Type.DATASPACE: _take_dataspace,
    Type.LINK_INFO: _take_link_info,
    Type.DATATYPE: _take_datatype,
    Type.LINK: add_link,
    Type.EXTERNAL_FILES: _take_external_files,
    Type.LAYOUT: _take_layout,
    Type.GROUP_INFO: _take_group,
    Type.FILTERS: _take_filters,
    Type.ATTRIBUTE: _take_attribute,
    Type.SYMBOL_TABLE: _take_symbols,
    Type.ATTRIBUTE_INFO: _take_attribute_info,
}


def _finish_part(file: File, draft: Draft) -> None:
    """Where a part of a header was the last one: have fetched what programs read of a dataset as they open it.

    That is the value of a scalar, and the first element of what refers to the global heap, from whose kind they see
    what the dataset is.
    """
    draft.pending -= 1
    if draft.pending or draft.datatype is None or draft.dataspace is None or not draft.dataspace.elements:
        return
    datatype = draft.datatype
    match draft.layout:
        case CompactLayout(data):
            touch_values(file, datatype, data[: datatype.size_bytes])
        case ContiguousLayout(address, _) if address is not None and not draft.is_external:
            if draft.dataspace.shape == () or may_refer(datatype):
                file.spawn(_touch_first(file, datatype, address))


def _touch_first(file: File, datatype: Datatype, address: int) -> Branch[None]:
    touch_values(file, datatype, (yield Need(address, min(datatype.size_bytes, _MOST_FIRST_BYTES))))
