"""Structure indexes that others have made: the one in the dataset's bucket, and the one that `--index` names.

Copies stand beside the stored manifests: they serve without network, and are asked for again when they may have
changed. What cannot be had, or is no index, is logged once, and files are read without it.

    structure       a line with the ETag that it had in the bucket, then the index
    structure-given a line with the file's name or its URL, then the index
"""

import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import trio

from vbnfs.access.opening import dataset_folder
from vbnfs.access.other_caches import in_time
from vbnfs.cache.structure_index import StructureIndex
from vbnfs.cache.structure_sets import KIND, MOST_BYTES
from vbnfs.config.environment import variables
from vbnfs.config.settings import Config
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.stored_files import StoredFolder
from vbnfs.errors import IndexFileError, VbnfsError
from vbnfs.logs import WarnOnce
from vbnfs.objects import ObjectClient
from vbnfs.s3.downloads import download

log = structlog.get_logger()

PUBLISHED: Final = "published"
GIVEN: Final = "given"
_COPIES: Final = {PUBLISHED: "structure", GIVEN: "structure-given"}
_UNUSED: Final = "a structure index cannot be used; files are read without it"
_IS_SILENT: Final = "its disk does not answer"
_IS_NONE: Final = "no structure index, which 'vbnfs index export' writes"
_PATIENCE_SECONDS: Final = 10.0  # with the disk of a file that is given
_FRESH_SECONDS: Final = 86_400.0  # that a copy of a URL is used without asking


class PublishedIndexes:
    """Hands them in to `index`: copies at first, and then what they have become."""

    def __init__(self, config: Config, client: ObjectClient, catalog: Catalog, index: StructureIndex) -> None:
        self._config = config
        self._client = client
        self._catalog = catalog
        self._index = index
        self._folder = StoredFolder(dataset_folder(config))
        self._names: dict[str, str] = {}  # of what was handed in: its ETag, or where it is from
        self._taken: dict[str, bytes] = {}  # the hash of what came last of each
        self._reading = trio.CapacityLimiter(1)  # a disk that hangs holds one thread, none of the readers
        self._came_at = -math.inf  # when the URL was asked last, and gave something
        self._warn_once = WarnOnce()
        self.have_come: Final = trio.Event()  # all that there are, or the first attempt at them has failed
        self.problems: Final[list[str]] = []  # what was wrong with them, in words for people

    def restore(self) -> None:
        """Read what is stored of the index, and hand in the copies. For a thread: a large index takes a while."""
        self._index.refresh()
        self._restore(PUBLISHED)
        if self._config.index is not None:
            self._restore(GIVEN, only=self._config.index)

    def _restore(self, origin: str, *, only: str | None = None) -> None:
        name, _, data = (self._folder.read(_COPIES[origin]) or b"").partition(b"\n")
        if data and only in {None, name.decode(errors="replace")} and self._index.hand_in(origin, data):
            self._names[origin] = name.decode(errors="replace")

    async def run(self) -> None:
        """Refresh now, and whenever new dataset versions are asked for."""
        while True:
            await self.refresh()
            self.have_come.set()
            await trio.sleep(self._config.refresh_seconds)

    async def refresh(self) -> None:
        """Ask for those that are not here, or may have changed. Raises nothing that can go wrong with them."""
        listed, given = self._catalog.published_index, self._config.index
        if listed is not None and listed.etag != self._names.get(PUBLISHED):
            get = partial(self._client.get_object, listed.key, max_bytes=MOST_BYTES)
            await self._take(PUBLISHED, listed.etag, listed.key, get)
        if given is None:
            return
        if "://" not in given:
            await self._take(GIVEN, given, given, partial(self._read, Path(given)))
        elif not self._config.offline and await trio.to_thread.run_sync(self._is_old, given):
            get = partial(
                download, given, ca_bundle=self._config.ca_bundle, environ=variables(), max_bytes=MOST_BYTES
            )
            await self._take(GIVEN, given, given, get)
            self._came_at = time.monotonic() if self._names.get(GIVEN) == given else self._came_at

    async def _take(self, origin: str, name: str, about: str, get: Callable[[], Awaitable[bytes]]) -> None:
        try:
            data = await get()
        except (VbnfsError, OSError) as error:
            self._warn(about, str((isinstance(error, OSError) and error.strerror) or error))
            return
        await trio.to_thread.run_sync(self._keep, origin, name, data, abandon_on_cancel=True)

    async def _read(self, file: Path) -> bytes:
        """A file on any disk, which may hang. Raises `OSError`, `IndexFileError`."""

        def read() -> bytes:
            with file.open("rb") as opened:
                return opened.read(MOST_BYTES + 1)

        with trio.move_on_after(_PATIENCE_SECONDS):
            data = await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._reading)
            if len(data) > MOST_BYTES:
                raise IndexFileError(f"{file}: more than {MOST_BYTES:,} bytes")
            return data
        raise IndexFileError(f"{file}: {_IS_SILENT}")

    def _keep(self, origin: str, name: str, data: bytes) -> None:
        digest = hashlib.blake2b(data).digest()
        if self._taken.get(origin) == digest:
            return
        self._taken[origin], self._names[origin] = digest, name
        if not self._index.hand_in(origin, data):
            self._warn(name, _IS_NONE)
            return
        self._folder.write(_COPIES[origin], f"{name}\n".encode() + data)

    def _warn(self, name: str, reason: str) -> None:
        self._warn_once(_UNUSED, index=name, reason=reason)
        text = f"index {name}: {reason}; files are read without it"
        if text not in self.problems:  # a mount asks again and again
            self.problems.append(text)

    def _is_old(self, url: str) -> bool:
        """Whether the copy of a URL is none, another one's, or old, and it was not asked since."""
        if time.monotonic() - self._came_at < _FRESH_SECONDS:
            return False
        age_seconds = math.inf
        with suppress(OSError):
            age_seconds = time.time() - (self._folder / _COPIES[GIVEN]).stat().st_mtime
        return self._names.get(GIVEN) != url or not 0 <= age_seconds < _FRESH_SECONDS


def unusable_index(config: Config) -> list[str]:
    """What keeps the file that `--index` names from being used now, in words."""
    given = config.index
    if given is None or "://" in given:
        return []
    problem = in_time(partial(_problem, Path(given)), otherwise=_IS_SILENT)
    return [f"--index {given}: {problem}; files are read without it"] if problem else []


def _problem(file: Path) -> str:
    """Empty if there is none."""
    try:
        with file.open("rb") as opened:
            return "" if opened.read(len(KIND.letters)) == KIND.letters else _IS_NONE
    except OSError as error:
        return error.strerror or str(error)
