"""How objects are cut into blocks."""

from hypothesis import given
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.objects import ByteRange

MIB = 1 << 20


@given(st.integers(0, 10 * MIB), st.integers(0, 2 * MIB))
def test_blocks_of_a_range_are_those_that_it_touches(start: int, length: int) -> None:
    """Each of its bytes lies in one of them, and each of them has one of its bytes."""
    blocks = blocks_of(ByteRange(start, start + length))
    if length == 0:
        assert len(blocks) == 0
    else:
        assert blocks[0] == start // BLOCK_BYTES
        assert blocks[-1] == (start + length - 1) // BLOCK_BYTES
