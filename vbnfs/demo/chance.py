"""Random numbers that depend on the seed and on labels, and not on what was drawn before.

Each object draws from a stream that is named after it, so that a release with more sessions has the same first
session as one with fewer.
"""

from __future__ import annotations

import hashlib
import uuid

import numpy as np


def stream(seed: int, *labels: object) -> np.random.Generator:
    """Return the generator that belongs to `seed` and the labels."""
    return np.random.default_rng(np.frombuffer(_digest(seed, *labels), dtype=np.uint32))


def object_id(*labels: object) -> str:
    """Return a UUID made from the labels, where a library would draw a random one."""
    return str(uuid.UUID(bytes=_digest(*labels), version=4))


def _digest(*labels: object) -> bytes:
    return hashlib.blake2b("\0".join(map(str, labels)).encode(), digest_size=16).digest()
