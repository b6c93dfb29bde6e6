"""Fields of bytes, read one behind the other; what is raised where they are not what they should be."""

from dataclasses import dataclass


class UnparsableError(Exception):
    """Bytes that are not what the specification says, or that say something which is not read here.

    Its text names the kind of structure. There are some forty such texts, none of which is made of the file's bytes.
    """


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many bytes an address and a length take in a file (II.A: "Size of Offsets", "Size of Lengths")."""

    address_bytes: int = 8
    length_bytes: int = 8


class Fields:
    """The fields of one structure, from the first byte on. All numbers are little-endian and unsigned.

    `what` names the structure. Every method raises `UnparsableError` with it where bytes are lacking.
    """

    __slots__ = ("_sizes", "_stop", "_what", "data", "position")

    def __init__(self, data: bytes, sizes: Sizes, what: str, position: int = 0) -> None:
        self.data = data
        self.position = position
        self._stop = len(data)
        self._sizes = sizes
        self._what = what

    @property
    def left(self) -> int:
        """How many bytes are still to be read."""
        return self._stop - self.position

    def number(self, size_bytes: int) -> int:
        """A number of so many bytes; 0 for none."""
        start = self.position
        stop = start + size_bytes
        if stop > self._stop:
            raise self.error()
        self.position = stop
        return int.from_bytes(self.data[start:stop], "little")

    def take(self, size_bytes: int) -> bytes:
        """So many bytes as they are."""
        start = self.position
        stop = start + size_bytes
        if stop > self._stop:
            raise self.error()
        self.position = stop
        return self.data[start:stop]

    def skip(self, size_bytes: int) -> None:
        """Pass over so many bytes."""
        self.position += size_bytes
        if self.position > self._stop:
            raise self.error()

    def address(self) -> int | None:
        """An address, relative to the file's base; None for the undefined one, all of whose bits are set."""
        size_bytes = self._sizes.address_bytes
        value = self.number(size_bytes)
        return None if value == (1 << 8 * size_bytes) - 1 else value

    def required(self) -> int:
        """An address that may not be undefined."""
        value = self.address()
        if value is None:
            raise self.error()
        return value

    def length(self) -> int:
        """A length."""
        return self.number(self._sizes.length_bytes)

    def dimension(self) -> int | None:
        """A length; None for the unlimited one, all of whose bits are set."""
        value = self.length()
        return None if value == (1 << 8 * self._sizes.length_bytes) - 1 else value

    def expect(self, *values: bytes) -> bytes:
        """One of these values, all of one size: a signature or a version. Returns which."""
        found = self.take(len(values[0]))
        if found not in values:
            raise self.error()
        return found

    def name(self, *, multiple: int = 1) -> str:
        """Text up to a NUL, which it takes, too; then so much more that a multiple of so many bytes was taken."""
        stop = self.data.find(b"\0", self.position)
        if stop < 0:
            raise self.error()
        text = as_text(self.data[self.position : stop])
        taken = stop + 1 - self.position
        self.skip(taken + -taken % multiple)
        return text

    def error(self) -> UnparsableError:
        """The error to raise where a field is not what it should be."""
        return UnparsableError(self._what)


def as_text(name: bytes) -> str:
    """A name as h5py gives it: UTF-8, with what is none kept as surrogates (PEP 383)."""
    return name.decode("utf-8", "surrogateescape")
