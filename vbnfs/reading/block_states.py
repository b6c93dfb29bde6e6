"""The life of a block in one process, as a table (pure): all states, and all ways from one to another.

A life begins when a block is wanted that is neither in memory, nor on its way, nor on the disk. It ends in one of
three states, and then nothing holds it; a later read of the block begins another life. So does a reader that waited
for a block which was stored as it came, and does not find it on the disk: it was evicted since, or never there.

    state      what it means                                              moved on by  to
    ---------  ---------------------------------------------------------  -----------  ------------------------------
    QUEUED     wanted, and planned with adjacent blocks; no fetch yet     source       UNDER_WAY
    UNDER_WAY  in a fetch: waits for room in memory, for another          source       ARRIVED STORED FAILED GIVEN_UP
               process that fetches it (and STORES it), or for S3
               (what receives it there may STORE it, too)
    GIVEN_UP   the same, but the time of a reader that waited for this    source       ARRIVED STORED FAILED
               fetch has run out: no other reader joins it, and a
               later read of the block begins another life
    ARRIVED    readers have its bytes; it holds room in memory of its     writer       STORED UNSTORED
               own, and waits for the disk
    UNSTORED   the disk did not take it, or did not answer in time;       writer       STORED FORGOTTEN
               its room is given back; it is offered again while memory
               remembers its bytes
    STORED     the disk has it                                            -
    FORGOTTEN  the disk did not take it, and memory has lost it, or       -
               another life of the block has come to its place
    FAILED     it will not come; readers that waited get the error,       -
               and the next one asks anew

`source` is block_source.py, with live_blocks.py; `writer` is block_writer.py. Both move a block by
`fetches.Block.move`, which refuses what is not in the table. Two facts follow from the state alone: a block holds
room in memory of its own while it is ARRIVED, and in no other state; it is found in live_blocks.py while it is
QUEUED, UNDER_WAY or ARRIVED, unless it was GIVEN_UP.
"""

from collections.abc import Mapping, Set
from enum import Enum, auto
from typing import Final


class BlockState(Enum):
    """Where in its life a block is."""

    QUEUED = auto()
    UNDER_WAY = auto()
    GIVEN_UP = auto()
    ARRIVED = auto()
    UNSTORED = auto()
    STORED = auto()
    FORGOTTEN = auto()
    FAILED = auto()


FIRST: Final = BlockState.QUEUED
TRANSITIONS: Final[Mapping[BlockState, Set[BlockState]]] = {
    BlockState.QUEUED: {BlockState.UNDER_WAY},
    BlockState.UNDER_WAY: {BlockState.ARRIVED, BlockState.STORED, BlockState.FAILED, BlockState.GIVEN_UP},
    BlockState.GIVEN_UP: {BlockState.ARRIVED, BlockState.STORED, BlockState.FAILED},
    BlockState.ARRIVED: {BlockState.STORED, BlockState.UNSTORED},
    BlockState.UNSTORED: {BlockState.STORED, BlockState.FORGOTTEN},
    BlockState.STORED: set(),
    BlockState.FORGOTTEN: set(),
    BlockState.FAILED: set(),
}


class TransitionError(Exception):
    """A defect: a block was to be moved where the table has no way to."""


def moved(before: BlockState, after: BlockState) -> BlockState:
    """`after`, if there is a way from `before` to it. Raises `TransitionError`."""
    if after not in TRANSITIONS[before]:
        raise TransitionError(f"a block cannot go from {before.name} to {after.name}")
    return after
