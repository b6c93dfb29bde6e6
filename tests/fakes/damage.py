"""What happens to the cache's files: bits that flip, files cut short, exchanged, emptied, overwritten."""

import random
from pathlib import Path
from typing import Final

KINDS: Final = ("bit", "zeros", "noise", "cut", "swap", "empty", "foreign", "longer")


def damage(path: Path, other: Path, at: float, kind: str, seed: int) -> None:
    """One of the things that happen to files."""
    data, noise = bytearray(path.read_bytes()), random.Random(seed).randbytes(5000)
    position = int(at * len(data)) if data else 0
    if kind == "bit" and data:
        data[position] ^= 1 << seed % 8
    elif kind in {"zeros", "noise"}:
        stop = min(len(data), position + 5000)
        data[position:stop] = bytes(stop - position) if kind == "zeros" else noise[: stop - position]
    elif kind == "cut":
        del data[position:]
    elif kind == "swap":
        here, there = bytes(data), other.read_bytes()
        other.write_bytes(here)
        data = bytearray(there)
    elif kind in {"empty", "foreign"}:
        data = bytearray() if kind == "empty" else bytearray(noise * (1 + len(data) // len(noise)))
    elif kind == "longer":
        data += noise
    path.write_bytes(data)
