"""mount(2), which Python's library does not have."""

import os
from pathlib import Path
from typing import Final

HAS_MOUNTS: Final = hasattr(os, "O_PATH")  # Linux alone has that, and FUSE as mounts here use it

NO_SUID, NO_DEV, NO_EXEC, READ_ONLY = 2, 4, 8, 1  # <linux/mount.h>
NO_SYMLINKS, NO_ATIME, NO_DIR_ATIME = 256, 1024, 2048


def mount(source: str, target: Path, kind: str, flags: int, data: str) -> None:
    """Have a folder show a file system of this kind. Raises `OSError`: the manual page says what each errno means."""
    import ctypes  # noqa: PLC0415 - only for a process that mounts by itself

    call = ctypes.CDLL(None, use_errno=True).mount
    texts = [os.fsencode(text) for text in (source, target, kind)]
    if call(*texts, ctypes.c_ulong(flags), os.fsencode(data)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
