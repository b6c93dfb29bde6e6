"""Fetches that no mount does, shown to `vbnfs status` and `vbnfs top`.

    <runtime folder>/fetch-<random>     JSON (`figures.Fetch`), and blanks; for as long as its process fetches

The folder is the user's for control sockets (host/runtime.py). A process has its file locked (flock(2)), so a file
that can be locked is of a dead one, and is deleted. All of it is advice: where no file can be made, the fetch is not
shown, and nothing else happens.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from vbnfs.config.settings import Config
from vbnfs.figures import Fetch, Fill, parse_fetch
from vbnfs.host.atomic import remove_abandoned, temporary_file
from vbnfs.host.folders import Folder
from vbnfs.host.identity import our_uid
from vbnfs.host.places import folder_at, open_file
from vbnfs.host.positioned import read_at, write_at
from vbnfs.host.processes import name_of
from vbnfs.host.runtime import make_runtime_directory, runtime_directories

_PREFIX: Final = "fetch-"
_MOST_BYTES: Final = 64 << 10


@contextmanager
def shown(config: Config) -> Iterator[Callable[[Fill], None]]:
    """While entered, a fetch of this process is shown: gives what takes how far it is.

    Raises `OSError`, `MountError` where it cannot be shown.
    """
    began, pid, longest = time.monotonic(), os.getpid(), 0
    with (
        folder_at(make_runtime_directory()).opened() as folder,
        temporary_file(folder, prefix=_PREFIX) as (descriptor, _),
    ):

        def write(fill: Fill) -> None:
            nonlocal longest
            seconds = time.monotonic() - began
            fetch = Fetch(name_of(pid), pid, config.dataset, str(config.cache_dir), seconds, fill)
            text = json.dumps(asdict(fetch)).encode()
            longest = max(longest, len(text))
            write_at(descriptor, text.ljust(longest), 0)  # in one piece, which hides all of an earlier text

        yield write


def running_fetches() -> list[Fetch]:
    """What processes of this user fetch now without a mount, the one that began first first."""
    found = [fetch for place in runtime_directories(our_uid()) for fetch in _fetches_in(place)]
    return sorted(found, key=lambda fetch: -fetch.seconds)


def _fetches_in(place: Path) -> Iterator[Fetch]:
    with suppress(OSError), folder_at(place).opened() as folder:
        for name in folder.names():
            if name.startswith(_PREFIX):
                with suppress(OSError, ValueError, RecursionError):  # it has just ended, or just begun
                    remove_abandoned(folder, name)
                    yield _read(folder, name)


def _read(folder: Folder, name: str) -> Fetch:
    descriptor = open_file(folder, name, os.O_RDONLY)
    try:
        return parse_fetch(json.loads(read_at(descriptor, _MOST_BYTES, 0)))
    finally:
        os.close(descriptor)
