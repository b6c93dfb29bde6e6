"""Structure sets: which blocks of a file hold its structure, by the file's hash (pure; docs/structure-index.md).

What programs read before they come to a file's data lies in these blocks. A set is advice: one that is wrong has
other blocks of the same file fetched, `MOST_BLOCKS` of them at the most, and changes nothing that is read.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Final

from vbnfs.blocks import BLOCK_BYTES, bytes_of_blocks
from vbnfs.cache.sets import HEAD_BYTES, SEAL_BYTES, Head, Kind, encode_set, read_set_of
from vbnfs.errors import IndexFileError

KIND: Final = Kind(b"vbnfsix1", "structure sets", IndexFileError)
MOST_BLOCKS: Final = 56  # of a file: 14 MiB
MOST_BYTES: Final = 8 << 20  # of all sets together: those of 25,000 files
MOST_SETS: Final = 8  # about one file: the last ones count
_NUMBER_BYTES: Final = 4
_LARGEST_FILE_BYTES: Final = BLOCK_BYTES << 8 * _NUMBER_BYTES
_HASH: Final = slice(20, 84)
_COUNT: Final = slice(84, 88)
_IS_WHOLE: Final = 1  # a bit of the flags behind the count


@dataclass(frozen=True, slots=True)
class StructureSet:
    """The numbers of the blocks, ascending, that the structure of the file with this hash (128 hex digits) is in.

    `nearest` are those of them to which the file's beginning leads: a program that follows the structure reads one of
    these next. `is_whole`: the structure was walked to its end. Else there may be more of it. A file that is no HDF5
    has a whole structure without blocks.
    """

    file_hash: str
    size_bytes: int
    blocks: tuple[int, ...]
    nearest: tuple[int, ...] = ()
    is_whole: bool = False

    @property
    def count_bytes(self) -> int:
        """What the blocks hold, in bytes."""
        return bytes_of_blocks(self.size_bytes, self.blocks)

    def encode(self) -> bytes:
        """The set as it is stored and exported (docs/structure-index.md)."""
        others = (number for number in self.blocks if number not in self.nearest)
        flags = _IS_WHOLE if self.is_whole else 0
        more, body = _as_bytes(len(self.blocks), flags, len(self.nearest)), _as_bytes(*self.nearest, *others)
        return encode_set(KIND, Head(self.file_hash, self.size_bytes, more), body)


def _as_bytes(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(_NUMBER_BYTES, "little") for number in numbers)


def structure_set(
    file_hash: str,
    size_bytes: int,
    blocks: Iterable[int],
    beside: Iterable[int] = (),
    *,
    nearest: Iterable[int] = (),
    is_whole: bool = False,
) -> StructureSet | None:
    """A set of blocks of a file: the `nearest`, all `blocks`, and those `beside` in order, as far as there is room.

    Blocks beyond the file are left out. None if there are none, and that is not all that there is.
    """
    numbers = range(-(-min(size_bytes, _LARGEST_FILE_BYTES) // BLOCK_BYTES))
    near = {number for number in nearest if number in numbers}
    wanted = near | {number for number in blocks if number in numbers}
    ordered = dict.fromkeys([*sorted(near), *sorted(wanted), *(n for n in beside if n in numbers)])
    kept, is_whole = tuple(sorted(list(ordered)[:MOST_BLOCKS])), is_whole and len(wanted) <= MOST_BLOCKS
    if not kept and not is_whole:
        return None
    return StructureSet(file_hash, size_bytes, kept, tuple(number for number in kept if number in near), is_whole)


def walked_set(
    file_hash: str, size_bytes: int, waves: Sequence[Iterable[int]], beside: Iterable[int] = (), *, is_whole: bool
) -> StructureSet | None:
    """The set of a walk, which came to blocks in `waves`: the second has those to which the file's beginning leads.

    `beside` is what readers lack besides: some of these may be left out of a whole set.
    """
    walked = (number for wave in waves for number in wave)
    nearest = waves[1] if len(waves) > 1 else ()
    return structure_set(file_hash, size_bytes, walked, beside, nearest=nearest, is_whole=is_whole)


def read_set(file: BinaryIO) -> StructureSet | None:
    """The next set of a file; None at its end. Raises `IndexFileError` for bytes that are none, `OSError`."""
    found = read_set_of(KIND, file, _body_bytes)
    if found is None:
        return None
    head, body = found
    blocks = tuple(
        int.from_bytes(body[start : start + _NUMBER_BYTES], "little") for start in range(0, len(body), _NUMBER_BYTES)
    )
    nearest, is_whole = blocks[: int.from_bytes(head.more[8:], "little")], bool(head.more[4] & _IS_WHOLE)
    for part in (nearest, blocks[len(nearest) :]):
        if any(later <= earlier for earlier, later in pairwise(part)):
            raise IndexFileError("the blocks of a file are not in ascending order")
    if len(set(blocks)) < len(blocks):
        raise IndexFileError("a block of a file twice")
    if max(blocks, default=-1) >= head.blocks:
        raise IndexFileError(f"block {max(blocks):,} of a file of {head.blocks:,} blocks")
    if not blocks and not is_whole:
        raise IndexFileError("no blocks")
    return StructureSet(head.file_hash, head.size_bytes, tuple(sorted(blocks)), nearest, is_whole)


def _body_bytes(head: Head) -> int:
    count = int.from_bytes(head.more[:4], "little")
    if count > MOST_BLOCKS:
        raise IndexFileError(f"{count:,} blocks of a file; at most {MOST_BLOCKS} are taken")
    return count * _NUMBER_BYTES


def merged(first: StructureSet | None, second: StructureSet | None) -> StructureSet | None:
    """What two sets about one file say together. One that is whole says all; of two of these the second counts.

    Otherwise it is the blocks of both, as far as there is room: those of the first one go before. Sets about
    different files, or sizes, do not go together: then it is the first one.
    """
    if first is None or second is None:
        return second if first is None else first
    if (first.file_hash, first.size_bytes) != (second.file_hash, second.size_bytes):
        return first
    for one in (second, first):
        if one.is_whole:
            return one
    nearest = {*first.nearest, *second.nearest}
    return structure_set(first.file_hash, first.size_bytes, first.blocks, second.blocks, nearest=nearest)


class Sets:
    """Sets that stand one behind the other in bytes: by the hash of the file, and decoded when they are asked for.

    What is no set between them is left out: a file that several processes append to may have a torn one. Of many sets
    about one file the last `MOST_SETS` are kept: taking any bytes is linear work, and asking for one file is little.
    """

    def __init__(self) -> None:
        self._parts: dict[bytes, tuple[bytes, ...]] = {}
        self.count_bytes = 0  # of all that were taken
        self.replaced_bytes = 0  # of these: of sets behind which there is a later one about the same file

    def __len__(self) -> int:
        return len(self._parts)

    def hashes(self) -> Iterator[str]:
        """The hashes of the files that there are sets of, ascending."""
        return iter([file_hash.hex() for file_hash in sorted(self._parts)])

    def take(self, data: bytes) -> int:
        """Take the sets that bytes have. Returns where the last one ends, as far as that can be seen."""
        end = position = data.find(KIND.letters)
        while position >= 0:
            following = data.find(KIND.letters, position + 1)
            part = data[position : following if following >= 0 else len(data)]
            stop = HEAD_BYTES + int.from_bytes(part[_COUNT], "little") * _NUMBER_BYTES + SEAL_BYTES
            if len(part) >= stop:
                self._take(part[_HASH], part[:stop])
                end = position + stop
            position = following
        return max(0, end)

    def _take(self, file_hash: bytes, part: bytes) -> None:
        before = self._parts.get(file_hash, ())
        if part not in before and self.count_bytes + len(part) <= MOST_BYTES:
            self._parts[file_hash] = (*before, part)[-MOST_SETS:]
            self.count_bytes += len(part)
            self.replaced_bytes += len(before[-1]) if before else 0

    def of(self, file_hash: str) -> StructureSet | None:
        """What they say of a file; None if nothing that can be used."""
        found: StructureSet | None = None
        for part in self._parts.get(bytes.fromhex(file_hash), ()):
            try:
                found = merged(found, read_set(io.BytesIO(part)))
            except IndexFileError:
                continue
        return found
