"""Messages that several objects share: in the header of a committed datatype, or in a fractal heap of the file's.

Specification, IV.A.2 ("shared"), III.I.
"""

from typing import Final

from vbnfs.hdf5.branches import Branch, File, Need
from vbnfs.hdf5.fields import UnparsableError
from vbnfs.hdf5.headers import read_header
from vbnfs.hdf5.heaps import read_object
from vbnfs.hdf5.messages import Message, Type

_IN_HEAP: Final = 1
_HEAP_ID_BYTES: Final = 8
_SHARED: Final = "shared message"


def read_shared(file: File, message: Message) -> Branch[bytes]:
    """The body of a message, wherever it is."""
    if not message.is_shared:
        return message.body
    fields = file.fields(message.body, _SHARED)
    version, kind = fields.number(1), fields.number(1)
    if version == 3 and kind == _IN_HEAP:
        return (yield from read_shared_object(file, message.type, fields.take(_HEAP_ID_BYTES)))
    if version not in {1, 2, 3}:
        raise fields.error()
    fields.skip(6 if version == 1 else 0)
    for found in (yield from read_header(file, fields.required())):
        if found.type == message.type and not found.is_shared:
            return found.body
    raise fields.error()


def read_shared_object(file: File, kind: int, heap_id: bytes) -> Branch[bytes]:
    """The body of a message of a type, in the heap of the file's that messages of this type share."""
    if file.extension is not None:
        for message in (yield from read_header(file, file.extension)):
            if message.type == Type.SHARED_TABLE:
                address = yield from _heap_of(file, message.body, kind)
                return (yield from read_object(file, address, heap_id))
    raise UnparsableError(_SHARED)


def _heap_of(file: File, body: bytes, kind: int) -> Branch[int]:
    fields = file.fields(body, _SHARED)
    fields.expect(b"\0")
    table, count = fields.required(), fields.number(1)
    sizes = file.sizes
    data = yield Need(table, 8 + count * (14 + 2 * sizes.address_bytes))
    fields = file.fields(data, _SHARED)
    fields.expect(b"SMTB")
    for _ in range(count):
        fields.skip(2)
        kinds = fields.number(2)  # a bit for each type, whose number is the type's
        fields.skip(10)
        fields.address()
        heap = fields.address()
        if kinds >> kind & 1 and heap is not None:
            return heap
    raise fields.error()
