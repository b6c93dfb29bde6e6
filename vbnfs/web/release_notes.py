"""The release notes that a bucket may have, as plain text: an object beside the folder of the manifests.

They are not among the files of a version, and no manifest has their hash: what comes is shown, and not
kept on the disk.
"""

import threading
from collections.abc import Callable
from typing import Final

from vbnfs.api.connection import Parts
from vbnfs.errors import AccessDeniedError, ObjectGoneError, StorageError

_NAME: Final = "release_notes.txt"
_MOST_BYTES: Final = 256 << 10


async def read_notes(parts: Parts) -> str:
    """The text; '' where the bucket has none. Raises a `StorageError`, also where there is too much of it."""
    dataset = parts.versions.dataset
    try:
        data = await dataset.link.get_object(f"{dataset.config.project}/{_NAME}", max_bytes=_MOST_BYTES)
    except (ObjectGoneError, AccessDeniedError):  # S3 says 403 of what is not there to who may not list
        return ""
    return data.decode("utf-8", "replace").replace("\r\n", "\n").strip()


class ReleaseNotes:
    """Asks once; again where there was no answer, and after `forget`. Thread-safe."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._text: str | None = None

    def text(self) -> str:
        """The notes; '' where there are none, or none can be had now."""
        with self._lock:
            if self._text is None:
                try:
                    self._text = self._read()
                except StorageError:
                    return ""
            return self._text

    def forget(self) -> None:
        """There may be others by now."""
        with self._lock:
            self._text = None
