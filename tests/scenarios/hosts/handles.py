"""File handles as an NFS server uses them: name_to_handle_at(2), open_by_handle_at(2), which Python does not have."""

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MOST_BYTES: Final = 128  # MAX_HANDLE_SZ
_AT_FDCWD: Final = -100


class _Handle(ctypes.Structure):
    _fields_ = (
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("f_handle", ctypes.c_ubyte * _MOST_BYTES),
    )


@dataclass(frozen=True, slots=True)
class Handle:
    """What names an inode to a client for as long as the file system can find it again."""

    kind: int
    data: bytes


def handle_of(path: Path) -> Handle:
    """The handle of what a path names; of a link, not of what it leads to. Raises `OSError`."""
    handle, mount_id = _Handle(handle_bytes=_MOST_BYTES), ctypes.c_int()
    failed = _LIBC.name_to_handle_at(_AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0)
    if failed:
        raise OSError(ctypes.get_errno(), "name_to_handle_at", str(path))
    return Handle(handle.handle_type, bytes(handle.f_handle[: handle.handle_bytes]))


def open_handle(mount: Path, handle: Handle, flags: int) -> int:
    """A descriptor of what has this handle in the file system that is mounted on a folder. Raises `OSError`."""
    packed = _Handle(handle_bytes=len(handle.data), handle_type=handle.kind)
    packed.f_handle[: len(handle.data)] = tuple(handle.data)
    folder = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    try:
        descriptor: int = _LIBC.open_by_handle_at(folder, ctypes.byref(packed), flags)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "open_by_handle_at", str(mount))
        return descriptor
    finally:
        os.close(folder)
