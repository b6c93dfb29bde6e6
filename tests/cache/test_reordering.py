"""What a power cut can leave of a block and its record, which the disk may write in any order and in part."""

import random
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES, checksum
from vbnfs.cache.block_checks import DamagedBlockError
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import CHECKSUMS, HEADER_BYTES
from vbnfs.cache.content_folder import DATA as DATA_FILE
from vbnfs.host.places import file_at
from vbnfs.objects import ByteRange

IDENTITY = "ab12"
BLOCKS = 3
RECORD_BYTES = 16
_RANDOM = random.Random(7)
DATA = [_RANDOM.randbytes(BLOCK_BYTES), _RANDOM.randbytes(BLOCK_BYTES), _RANDOM.randbytes(1000)]
SIZE = sum(map(len, DATA))
OLD = _RANDOM.randbytes(BLOCK_BYTES)  # what the disk's place held before, of another file

parts = st.tuples(st.floats(0, 1), st.booleans(), st.sampled_from(["zeros", "old"]))
states = st.lists(st.tuples(parts, parts), min_size=BLOCKS, max_size=BLOCKS)


def torn(new: bytes, part: tuple[float, bool, str]) -> bytes:
    """What is there after the cut: the first or the last bytes of what was written, else zeros or what was before."""
    share, is_first, rest = part
    at = round(share * len(new))
    before = bytes(len(new)) if rest == "zeros" else OLD[: len(new)]
    return new[:at] + before[at:] if is_first else before[:at] + new[at:]


ALL = ((1.0, True, "zeros"),) * 2
RECORD_ONLY = ((0.0, True, "zeros"), (1.0, True, "zeros"))
DATA_ONLY = ((1.0, True, "zeros"), (0.0, True, "zeros"))


@example([ALL, RECORD_ONLY, DATA_ONLY])
@example([RECORD_ONLY, DATA_ONLY, ALL])
@given(states)
@settings(max_examples=150, deadline=None)
def test_every_order_of_writing_is_a_miss_or_the_right_bytes(
    state: list[tuple[tuple[float, bool, str], tuple[float, bool, str]]],
) -> None:
    """Record without data, data without record, both torn anywhere: never a wrong byte, and whole blocks are used."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ab12")
        ContentFile.create(file_at(path), identity=IDENTITY, data_bytes=SIZE)
        left = []
        with open(path / DATA_FILE, "r+b") as file, open(path / CHECKSUMS, "r+b") as checksums:
            for index, (data_part, record_part) in enumerate(state):
                record = checksum(IDENTITY, index, DATA[index])
                left.append((torn(DATA[index], data_part), torn(record, record_part) == record))
                checksums.seek(HEADER_BYTES + index * RECORD_BYTES)
                checksums.write(torn(record, record_part))
                file.seek(index * BLOCK_BYTES)
                file.write(left[-1][0])
        content = ContentFile.open(file_at(path), identity=IDENTITY, data_bytes=SIZE)
        assert content is not None
        for index, (bytes_left, is_recorded) in enumerate(left):
            is_good = is_recorded and bytes_left == DATA[index]
            assert read_or_miss(content, index) == (DATA[index] if is_good else None)
            content.write(index, DATA[index])
            assert read_or_miss(content, index) == DATA[index]


def read_or_miss(content: ContentFile, index: int) -> bytes | None:
    start = index * BLOCK_BYTES
    try:
        view = content.read(ByteRange(start, start + len(DATA[index])))
    except DamagedBlockError:
        return None
    return None if view is None else bytes(view)
