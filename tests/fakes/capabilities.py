"""A thread without a capability for a while: capabilities(7)."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Final

LEASE: Final = 28  # CAP_LEASE in <linux/capability.h>; the other numbers are in vbnfs/host/capabilities.py
_HEAD: Final = Struct("=Ii").pack(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3; this thread
_SETS: Final = Struct("=6I")  # effective, permitted and inheritable ones, of the first 32 and of the others
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@contextmanager
def without_capability(number: int) -> Iterator[None]:
    """While entered, this thread and those that it starts cannot use one of the first 32."""
    before = ctypes.create_string_buffer(_SETS.size)
    _call("capget", before)
    effective, *others = _SETS.unpack(before.raw)
    _call("capset", ctypes.create_string_buffer(_SETS.pack(effective & ~(1 << number), *others), _SETS.size))
    try:
        yield
    finally:
        _call("capset", before)


def _call(name: str, sets: "ctypes.Array[ctypes.c_char]") -> None:
    if _LIBC[name](_HEAD, sets) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
