"""What happens to the cache's files: bits that flip, files cut short, exchanged, emptied; folders that are moved."""

import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.fakes.cache_files import FILES
from vbnfs.cache.content_folder import KINDS as PLACES

KINDS: Final = ("bit", "zeros", "noise", "cut", "swap", "empty", "foreign", "longer")  # to one of the two files
FOLDER_KINDS: Final = ("file deleted", "folders exchanged", "folder moved", "folder twice")


def damage_content(folder: Path, other: Path, at: float, kind: str, seed: int) -> None:
    """One of the things that happen to a content in its folder: to one of its files, or to both.

    `other` is another content's folder, or the same one. What is not there, or goes meanwhile, is left alone.
    """
    name = FILES[seed % len(FILES)]
    with suppress(OSError):
        if kind == "file deleted":
            (folder / name).unlink()
        elif kind == "folders exchanged":
            _exchange(folder, other)
        elif kind in {"folder moved", "folder twice"}:
            _take_along(folder, is_copy=kind == "folder twice")
        else:
            damage(folder / name, other / name, at, kind, seed)


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


def _exchange(folder: Path, other: Path) -> None:
    if folder != other:
        aside = folder.with_name("aside")
        folder.rename(aside)
        other.rename(folder)
        aside.rename(other)


def _take_along(folder: Path, *, is_copy: bool) -> None:
    """A whole content among the partial ones, or the other way round; or at both places."""
    _, kind, digits, name = folder.parts[-4:]
    there = folder.parents[2] / PLACES[1 - PLACES.index(kind)] / digits / name
    there.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if there.exists():
        shutil.rmtree(there)
    shutil.copytree(folder, there) if is_copy else folder.rename(there)
