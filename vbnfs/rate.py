"""A limit of bytes a second, as a token bucket (pure): what may be fetched now, and what has to wait.

The bucket fills at the rate, and holds an eighth of a second at the most. A GET takes its length out of it before it
is sent. One that a reader waits for may go as soon as the bucket is not in debt, and leaves it in debt; one of a
prefetch only when all of it is there, so that a reader that comes then finds no debt. What is admitted so in any time
is no more than the rate allows in that time, one filling of the bucket, and one GET.

A bucket is a value, which processes share (`cache/shared_rate.py`): so a process that dies leaves no more than the
debt of one GET. Its clock is one that all of them have. Where that goes back, nothing is gained; where it leaps, no
more than the bucket holds, and what is left of a debt.
"""

import math
from dataclasses import dataclass
from typing import Final

from vbnfs.blocks import BLOCK_BYTES

OFF: Final = 0  # the rate that is no limit
LEAST_RATE: Final = 16 << 10  # bytes a second: a block takes 16 s
_BURST_SECONDS: Final = 1 / 8
_GET_SECONDS: Final = 1 / 16  # so that other programs on the line do not notice single GETs
_AHEAD_SECONDS: Final = 10.0
_LEAST_AHEAD_BYTES: Final = 4 << 20
_DEBT_SECONDS: Final = 2.0  # for what was not asked for by its length
_MOST_BYTES: Final = 1 << 50  # what is more was never in a bucket


def burst_bytes(rate: int) -> int:
    """How much a bucket holds: at least one block, or none could be fetched ahead."""
    return max(BLOCK_BYTES, int(rate * _BURST_SECONDS))


def longest_get_blocks(rate: int) -> int:
    """How many blocks a GET brings at most. What is admitted comes as fast as the line is: so it has to be short."""
    return max(1, int(rate * _GET_SECONDS) // BLOCK_BYTES)


def ahead_bytes(rate: int) -> int:
    """How much is worth having ahead of all readers: more would keep the line busy for one that may have gone."""
    return max(_LEAST_AHEAD_BYTES, int(rate * _AHEAD_SECONDS))


def rate_text(rate: int | None) -> str:
    """A rate for people: 5.0 MiB/s, 500 KiB/s; `off` for none."""
    if not rate:
        return "off"
    return f"{rate / (1 << 20):,.1f} MiB/s" if rate >= 1 << 20 else f"{rate / (1 << 10):.0f} KiB/s"


@dataclass(frozen=True, slots=True)
class Bucket:
    """What may be fetched at the moment `at`, in bytes; below 0 it is a debt. Times are of one clock, in seconds."""

    level_bytes: float = 0.0
    at: float = -math.inf

    @property
    def is_possible(self) -> bool:
        """Whether these can be figures of a bucket: what a file has may be damaged."""
        return abs(self.level_bytes) <= _MOST_BYTES and self.at < math.inf

    def filled(self, rate: int, now: float) -> "Bucket":
        """The bucket at a later moment; no fuller at an earlier one.

        A debt is at most what this rate could have made: what was taken at a higher one holds up no reader for long.
        """
        gained = rate * max(0.0, now - self.at) if self.at > -math.inf else 0.0
        least = -(rate * _DEBT_SECONDS + longest_get_blocks(rate) * BLOCK_BYTES)
        return Bucket(max(least, min(self.level_bytes + gained, float(burst_bytes(rate)))), now)

    def wait_seconds(self, count_bytes: int, rate: int, *, is_wanted: bool) -> float:
        """How long a GET of so many bytes has to wait. `is_wanted`: a reader waits for it."""
        needed = 0 if is_wanted else min(count_bytes, burst_bytes(rate))
        return max(0.0, (needed - self.level_bytes) / rate)

    def without(self, count_bytes: float) -> "Bucket":
        """What is left when so much is taken out; with a negative count, when it is given back."""
        return Bucket(self.level_bytes - count_bytes, self.at)

    def charged(self, count_bytes: int, rate: int) -> "Bucket":
        """What is left when so much came without being asked for by its length, such as a list.

        Readers do not wait for more than two seconds because of that.
        """
        least = min(self.level_bytes, -rate * _DEBT_SECONDS)
        return Bucket(max(self.level_bytes - count_bytes, least), self.at)
