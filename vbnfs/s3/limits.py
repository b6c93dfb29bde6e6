"""How long a server may take (pure)."""

from dataclasses import dataclass
from typing import Final

from vbnfs.host.keepalive import keepalive_options

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 15.0  # without a single byte
LEAST_BYTES: Final = 64 << 10  # a body that brings less than this, and not its end, ...
LEAST_SECONDS: Final = 30.0  # ... within that is given up: all readers that share the request would wait for hours

# The kernel asks an idle connection for a sign of life, and ends one that owes an answer for too long.
KEEPALIVE: Final = keepalive_options(SILENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class BodyTime:
    """What is left to a body: so many bytes have to come within so many seconds, or it is too slow."""

    due_bytes: int = LEAST_BYTES
    left_seconds: float = LEAST_SECONDS

    def after(self, count_bytes: int, seconds: float) -> "BodyTime":
        """What is left once so many bytes came, after waiting for them for so long."""
        if count_bytes >= self.due_bytes:
            return BodyTime()
        return BodyTime(self.due_bytes - count_bytes, max(0.0, self.left_seconds - seconds))
