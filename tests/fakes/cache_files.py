"""Where a cache directory keeps its contents: for tests that look at their files, or do something to them."""

import shutil
from pathlib import Path

from vbnfs.cache.content_folder import CHECKSUMS, DATA, FORMAT, KINDS, PARTIAL

FILES = (DATA, CHECKSUMS)  # of a content


def place_of(cache: Path, content_id: str, *, scope: str, kind: str = PARTIAL) -> Path:
    """The folder of a content, whether it is there or not."""
    return cache / FORMAT / scope / kind / content_id[:2] / content_id


def folder_of(cache: Path, content_id: str, *, scope: str) -> Path:
    """The folder of a content where it is: with the whole ones or the partial ones. If it is nowhere, a partial's."""
    places = [place_of(cache, content_id, scope=scope, kind=kind) for kind in KINDS]
    return next((place for place in places if place.exists()), places[-1])


def content_folders(cache: Path) -> list[Path]:
    """The folders of all contents, of all scopes, whole and partial; not those that are being made or deleted.

    One that moves to the whole ones meanwhile is found once: they are looked at last.
    """
    found = [path for kind in reversed(KINDS) for path in (cache / FORMAT).glob(f"*/{kind}/*/*")]
    return sorted({(scope_of(path), path.name): path for path in found if not path.name.startswith(".")}.values())


def unfinished_folders(cache: Path) -> list[Path]:
    """The folders that are being made or deleted, or were when their process died."""
    return [path for pattern in (".new-*", ".old-*") for path in (cache / FORMAT).rglob(pattern)]


def scope_of(folder: Path) -> str:
    """Where the bytes of a content came from, by its folder."""
    return folder.parts[-4]


def allocated_bytes(cache: Path) -> int:
    """What the files of all contents take on the disk, also of those that are being made or deleted."""
    return sum(path.lstat().st_blocks * 512 for name in FILES for path in (cache / FORMAT).rglob(name))


def remove_content(cache: Path, content_id: str, *, scope: str) -> None:
    """Have nothing be there of a content, whole or partial."""
    for kind in KINDS:
        shutil.rmtree(place_of(cache, content_id, scope=scope, kind=kind), ignore_errors=True)


def leave_unfinished(beside: Path) -> list[Path]:
    """What a process leaves that dies while it makes a content, and one that dies while it deletes one."""
    left = [beside / ".new-left", beside / ".old-left"]
    for folder in left:
        folder.mkdir()
        (folder / DATA).write_bytes(b"left")
    return left
