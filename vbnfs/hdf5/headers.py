"""Headers of objects, of version 1 and 2, and the chunks in which they go on elsewhere (specification, IV.A.1)."""

from dataclasses import dataclass

from vbnfs.hdf5.branches import SPECULATIVE_BYTES, Branch, File, Need
from vbnfs.hdf5.messages import Message, Type, read_messages

_HEADER = "object header"


@dataclass(frozen=True, slots=True)
class Form:
    """What the chunks of one header have in common: its version, and whether messages have their creation order."""

    version: int
    has_order: bool


def read_first_chunk(file: File, address: int) -> Branch[tuple[Form, list[Message]]]:
    """The header at `address`, as far as its first chunk goes."""
    data = yield Need(address, SPECULATIVE_BYTES)
    fields = file.fields(data, _HEADER)
    if data.startswith(b"OHDR"):
        fields.skip(4)
        fields.expect(b"\2")
        flags = fields.number(1)
        fields.skip((16 if flags & 32 else 0) + (4 if flags & 16 else 0))
        size_bytes = fields.number(1 << (flags & 3))
        form = Form(2, bool(flags & 4))
    else:
        fields.expect(b"\1")
        fields.skip(7)
        size_bytes = fields.number(4)
        fields.skip(4)
        form = Form(1, has_order=False)
    start = fields.position
    if fields.left < size_bytes:
        data = yield Need(address, start + size_bytes)
    body = file.fields(data, _HEADER, start).take(size_bytes)
    return form, list(read_messages(body, form.version, has_order=form.has_order))


def read_next_chunk(file: File, form: Form, message: Message) -> Branch[list[Message]]:
    """The chunk that a continuation message leads to (IV.A.2.q)."""
    fields = file.fields(message.body, _HEADER)
    address, size_bytes = fields.required(), fields.length()
    fields = file.fields((yield Need(address, size_bytes)), _HEADER)
    if form.version == 2:
        fields.expect(b"OCHK")
        size_bytes -= 8  # without signature and checksum
    return list(read_messages(fields.take(max(0, size_bytes)), form.version, has_order=form.has_order))


def read_header(file: File, address: int) -> Branch[list[Message]]:
    """All messages of the header at `address`, one chunk after the other."""
    form, messages = yield from read_first_chunk(file, address)
    seen = set[bytes]()
    for message in messages:  # which grow meanwhile
        if message.type == Type.CONTINUATION and message.body not in seen:
            seen.add(message.body)
            messages += yield from read_next_chunk(file, form, message)
    return messages
