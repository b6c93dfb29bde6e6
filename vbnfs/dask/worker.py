"""What happens in Dask's workers: their facts, and jobs. It is sent to them by name, so they have this package, too.

`given` are settings as text by name: those of the dataset that is meant, and those that were given for all workers.
All others are the worker's own. Answers are plain values, so that no class has to be the same at both ends.
"""

import asyncio
import socket
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from vbnfs import __version__
from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.here import Here
from vbnfs.access.room import Room
from vbnfs.access.tree_files import Place
from vbnfs.access.verifying import FAILED, NOT_KEPT, Outcome
from vbnfs.access.wanted import Wanted
from vbnfs.api.connection import Connection
from vbnfs.api.progress import Progress
from vbnfs.api.version import Session, Version
from vbnfs.api.working_sets import brought, verified
from vbnfs.config.settings import SETTINGS, Config
from vbnfs.config.sources import load_config
from vbnfs.errors import StorageError, VbnfsError, with_remedy
from vbnfs.host.atomic import replace_file
from vbnfs.host.places import folder_at

if TYPE_CHECKING:
    from distributed import Worker

Given = Mapping[str, str]

_COMPARED: Final = (
    *("bucket", "project", "endpoint_url", "region", "mirror", "site_cache", "offline"),
    *("cache_size", "cache_reserve", "limit_rate", "verify"),
)  # settings in which workers should not differ unnoticed
_MOST_STOPPED: Final = 1000

_stopped: Final[dict[str, None]] = {}  # tokens of runs that have ended, the oldest first
_lock: Final = threading.Lock()


class StoppedError(Exception):
    """The run that this job is of has ended."""


async def facts(given: Given) -> dict[str, Any]:
    """Host, version of vbnfs, cache directory, and the settings that are compared, as text."""
    return await _in_thread(_facts, given)


async def mark(given: Given, names: Mapping[str, str], dask_worker: "Worker") -> dict[str, Any]:
    """Make a file in the cache directory, by which other hosts see whether it is the same folder.

    `names` are those of the files, by the workers' addresses.
    """
    return await _in_thread(_mark, given, names[dask_worker.address])


async def seen(given: Given, names: Sequence[str]) -> dict[str, Any]:
    """Which files of these names are in the cache directory."""
    return await _in_thread(_seen, given, names)


async def unmark(given: Given, names: Mapping[str, str], dask_worker: "Worker") -> dict[str, Any]:
    """Delete that file."""
    return await _in_thread(_unmark, given, names[dask_worker.address])


async def stock(given: Given, content_ids: Sequence[str]) -> dict[str, Any]:
    """How many bytes of contents the cache has, which are whole, and how much more of them it has room for."""
    return await _in_thread(_stock, given, content_ids)


async def stop(token: str) -> None:
    """The run with this token has ended: what is fetched for it is cancelled."""
    _stopped[token] = None
    while len(_stopped) > _MOST_STOPPED:
        del _stopped[next(iter(_stopped))]


def fetch(given: Given, token: str, name: str, paths: Sequence[str]) -> dict[str, Any]:
    """Bring files of the dataset's tree into the cache. The answer has a finding for each.

    It has an error, too, where none of them came.
    """
    report = _reporting(token, name)
    return _judged(lambda: brought(_connection(given), Wanted(tuple(paths)), None, progress=report))


def verify(given: Given, token: str, name: str, paths: Sequence[str], is_fetched: bool) -> dict[str, Any]:
    """Hash files, with `is_fetched` after fetching what is missing. The answer is as that of `fetch`."""
    report = _reporting(token, name)
    return _judged(lambda: verified(_connection(given), paths, is_fetched=is_fetched, progress=report))


def call(
    given: Given, token: str, session_id: int, function: Callable[..., Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What a function returns of a session of the dataset version; or its error, with where it was raised."""
    _check(token)
    try:
        return {"result": function(_session(given, session_id), **arguments)}
    except BaseException as error:  # also what would end the worker, as sys.exit() does
        return {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """As `_answered`, in a thread, for the worker has to go on while its disk takes its time."""
    return await asyncio.to_thread(_answered, function, *arguments)


def _answered(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """The result, or what keeps this worker from it, as text with what helps."""
    try:
        return {"result": function(*arguments)}
    except StorageError as error:
        return {"error": with_remedy(error)}
    except (VbnfsError, OSError) as error:
        return {"error": str(error)}


def _facts(given: Given) -> dict[str, Any]:
    config = load_config(command_line=given)
    found = {one.name: str(getattr(config, one.field)) for one in SETTINGS if one.name in _COMPARED}
    return {
        "host": socket.gethostname(),
        "version": __version__,
        "cache_dir": str(config.cache_dir),
        "settings": found,
    }


def _mark(given: Given, name: str) -> None:
    directory = load_config(command_line=given).cache_dir
    prepare_cache_directory(directory)
    replace_file(folder_at(directory) / name, b"")


def _seen(given: Given, names: Sequence[str]) -> list[str]:
    folder = folder_at(load_config(command_line=given).cache_dir)
    return [name for name in names if (folder / name).is_file()]


def _unmark(given: Given, name: str) -> None:
    (folder_at(load_config(command_line=given).cache_dir) / name).unlink(missing_ok=True)


def _stock(given: Given, content_ids: Sequence[str]) -> dict[str, Any]:
    config = load_config(command_line=given)
    prepare_cache_directory(config.cache_dir)
    here, wanted = Here.of(config), set(content_ids)
    bytes_here = {one: here.allocated[one] for one in wanted & here.allocated.keys()}
    room = Room.of(Place(config, (), ""), wanted)
    return {
        "bytes_here": bytes_here,
        "whole": sorted(wanted & here.whole),
        "room_bytes": room.more_bytes(sum(bytes_here.values())),
    }


def _judged(work: Callable[[], Outcome]) -> dict[str, Any]:
    """The findings of some work on files; and an error where none came to its end, so another worker is to try."""
    answer = _answered(lambda: [finding.as_json() for finding in work().findings])
    outcomes = {finding["outcome"] for finding in answer.get("result", ())}
    return {**answer, "error": ", ".join(outcomes)} if outcomes and outcomes <= {FAILED, NOT_KEPT} else answer


def _reporting(token: str, name: str) -> Callable[[Progress], None]:
    """What reports how far a job is to the client, by an event of Dask; it ends a job whose run has ended."""
    from distributed import get_worker  # noqa: PLC0415 - not everybody who imports this has it

    worker: Worker = get_worker()
    reported = [-1]
    _check(token)

    def report(progress: Progress) -> None:
        _check(token)
        if progress.done_bytes != reported[0]:
            reported[0] = progress.done_bytes
            worker.log_event(token, {"job": name, "done_bytes": progress.done_bytes})

    return report


def _check(token: str) -> None:
    if token in _stopped:
        raise StoppedError("the command or the program that asked for this has ended")


def _connection(given: Given) -> Connection:
    """The dataset of these settings, which this process opens once."""
    with _lock:
        return _opened(tuple(sorted(given.items())))


@cache
def _opened(given: tuple[tuple[str, str], ...]) -> Connection:
    return Connection(load_config(command_line=dict(given)))


def _session(given: Given, session_id: int) -> Session:
    connection = _connection(given)
    config: Config = connection.config
    return Version(connection, connection.value.versions.manifest(config.dataset_version)).session(session_id)
