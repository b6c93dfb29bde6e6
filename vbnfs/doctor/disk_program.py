"""A program: what the disk of the cache says. It reads a `Config`, and writes `DiskFacts`.

Both are as disk_messages.py has them; disk_question.py starts it. It deletes nothing but what dead processes left,
and writes a trial file, which is gone at once.
"""

import os
import sys
from collections.abc import Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from vbnfs.access.cache_directory import is_there, prepare_cache_directory
from vbnfs.access.opening import scope_of
from vbnfs.access.other_caches import unusable_caches
from vbnfs.access.published_index import unusable_index
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import format_1
from vbnfs.cache.cache_disk import why_no_block, why_no_room, why_pins_are_in_the_way
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.inventory import CachedContent
from vbnfs.cache.reserve import Reserve, space_of
from vbnfs.cache.sampling import take_sample
from vbnfs.cache.shared_rate import read_rate
from vbnfs.cache.verdicts import Verdicts
from vbnfs.config.settings import Config
from vbnfs.daemon.machine import why_no_log
from vbnfs.doctor.disk import DiskFacts, Stored
from vbnfs.doctor.disk_messages import decode, encode
from vbnfs.errors import CacheError
from vbnfs.host.atomic import temporary_file
from vbnfs.host.disk_space import space_at
from vbnfs.host.mountinfo import all_mounts, file_system_type, is_local, mount_holding
from vbnfs.host.own_folders import open_own
from vbnfs.host.places import Anchor, Place, folder_at
from vbnfs.host.positioned import write_all
from vbnfs.host.private import keep_others_out
from vbnfs.metrics import Metrics

_TRIAL_PREFIX: Final = ".new-"  # of what eviction deletes, too, if this is killed
_LOG_BYTES: Final = 64 << 10
_MOST_LINES: Final = 100


def main() -> None:
    """Write what there is."""
    keep_others_out()
    config: Config = decode(sys.stdin.buffer.read())
    os.write(1, encode(gather(config)))  # all of it: a pipe, and no signals


def gather(config: Config) -> DiskFacts:
    """What the disk says; waits for it."""
    return replace(
        _of_the_cache(config),
        others=(*unusable_caches(config), *unusable_index(config)),
        log_file=config.log_file,
        log_refusal=why_no_log(config.log_file),
        log_lines=_end_of(config.log_file),
    )


def _of_the_cache(config: Config) -> DiskFacts:
    directory = config.cache_dir
    try:
        if is_there(directory):
            prepare_cache_directory(directory)
            return _of_one(config, folder_at(directory))
        with suppress(FileNotFoundError):  # as it is; but folders on the way are checked
            open_own(directory, make=False).close()
    except CacheError as error:
        return DiskFacts(directory=directory, refusal=error)
    except OSError as error:
        return DiskFacts(
            directory=directory,
            refusal=CacheError(f"cache directory {directory}: {error.strerror}; choose one with --cache-dir"),
        )
    return _of_none_yet(config)


def _of_one(config: Config, directory: Place) -> DiskFacts:
    """Raises `OSError`."""
    contents: list[CachedContent] = []
    evictor = Evictor(
        directory,
        limit_bytes=config.cache_size_bytes,
        reserve_bytes=config.cache_reserve_bytes,
        metrics=Metrics(),
        on_scan=contents.extend,
    )
    chosen = evictor.victims()  # which are there until a mount, or `vbnfs clean`, evicts
    space = space_of(directory)
    no_block = why_no_block(space) or _why_no_trial_file(directory)
    stored = Stored(
        usage_bytes=evictor.usage_bytes,
        limit_bytes=evictor.limit_bytes,
        pins_problem=why_pins_are_in_the_way(directory, evictor),
        mismatched_files=len(Verdicts(directory, scope=scope_of(config)).refresh()),
        unused_text=format_1.unused_text(config.cache_dir),
        sample=take_sample(directory, [*contents, *chosen]),
    )
    return DiskFacts(
        directory=config.cache_dir,
        file_system=_file_system(config.cache_dir),
        is_local=is_local(config.cache_dir),
        is_seen_late="nocto" in _mount_options(config.cache_dir),
        free_bytes=space.free_bytes,
        reserve_bytes=evictor.reserve.bytes_of(space),
        no_room=why_no_room(directory, evictor.reserve, space, no_block),
        stored=stored,
        rate_bytes=read_rate(directory).rate,
    )


def _of_none_yet(config: Config) -> DiskFacts:
    """Of a cache that is still to be made, in the first folder above it that there is."""
    parent = next(folder for folder in config.cache_dir.parents if folder.is_dir())
    space = space_at(parent)
    directory = Place(Anchor(config.cache_dir, at_once=False))
    reserve = Reserve(directory, config.cache_reserve_bytes)
    return DiskFacts(
        directory=config.cache_dir,
        parent=parent,
        may_be_made=os.access(parent, os.W_OK | os.X_OK),
        file_system=_file_system(parent),
        free_bytes=space.free_bytes,
        reserve_bytes=reserve.bytes_of(space),
        no_room=why_no_room(directory, reserve, space, why_no_block(space)),
    )


def _why_no_trial_file(directory: Place) -> OSError | None:
    """Why the disk takes no block: it may have a quota, of which its space says nothing. None if it takes one."""
    try:
        with directory.opened() as folder, temporary_file(folder, prefix=_TRIAL_PREFIX) as (descriptor, _):
            write_all(descriptor, [bytes(BLOCK_BYTES)], 0)
            os.fsync(descriptor)
    except OSError as error:
        return error
    return None


def _file_system(path: Path) -> str:
    return file_system_type(Path(os.path.realpath(path)), all_mounts()) or "a file system that is not known"


def _mount_options(path: Path) -> Set[str]:
    entry = mount_holding(Path(os.path.realpath(path)), all_mounts())
    return frozenset() if entry is None else entry.options


def _end_of(log_file: Path) -> tuple[str, ...]:
    """The last lines of a log; none where it cannot be read, or is no regular file."""
    with suppress(OSError):
        if log_file.is_file():
            with log_file.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
                return tuple(file.read(_LOG_BYTES).decode(errors="replace").splitlines()[-_MOST_LINES:])
    return ()


if __name__ == "__main__":
    main()
