"""`vbnfs clean`: bring a cache within its size while no mount does, and remove what dead processes left in it."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vbnfs.access.cache_directory import is_there, prepare_cache_directory
from vbnfs.cache.eviction import DEFAULT_BYTES, Evictor, store_size, stored_size
from vbnfs.cache.inventory import scan
from vbnfs.cache.pins import unread_error
from vbnfs.cli.render import size
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.errors import CacheError, UsageError
from vbnfs.host.places import Place, folder_at
from vbnfs.host.private import keep_others_out
from vbnfs.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A cache after it was cleaned: what it takes and may take, and what was deleted to get there.

    After a trial: what it takes as it is, and what would be deleted, by name as well.
    """

    cache_dir: Path
    usage_bytes: int
    limit_bytes: int
    deleted_files: int
    freed_bytes: int
    is_there: bool = True
    names: Mapping[str, int] = field(default_factory=dict)  # and what each takes on the disk


def clean(config: Config, *, is_trial: bool = False) -> Cleaned:
    """Evict down to the limit. Raises `CacheError` for a folder that is not ours, and if the limit is not reached.

    A folder that does not exist is clean. With `is_trial` no file is deleted, and no size stored.
    """
    if not is_there(config.cache_dir):
        return Cleaned(config.cache_dir, 0, config.cache_size_bytes or DEFAULT_BYTES, 0, 0, is_there=False)
    keep_others_out()
    prepare_cache_directory(config.cache_dir)  # before anything in it is read
    directory = folder_at(config.cache_dir)
    evictor = Evictor(
        directory,
        limit_bytes=config.cache_size_bytes,
        reserve_bytes=config.cache_reserve_bytes,
        metrics=Metrics(),
    )
    if is_trial:
        return _trial(config, evictor)
    before = _files(directory)
    if config.cache_size_bytes is not None:
        store_size(directory, config.cache_size_bytes)  # from now on a mount on the cache deletes files, too
    evictor.scan_and_evict()
    _check(config, evictor)
    return Cleaned(
        config.cache_dir,
        evictor.usage_bytes,
        evictor.limit_bytes,
        len(before.keys() - _files(directory).keys()),
        max(0, before.total() - evictor.usage_bytes),
    )


def _trial(config: Config, evictor: Evictor) -> Cleaned:
    """What would be deleted, without deleting it."""
    names = {one.path: one.allocated_bytes for one in evictor.victims()}
    _check_pins(evictor)
    usage_bytes, limit_bytes = evictor.usage_bytes, evictor.limit_bytes
    return Cleaned(config.cache_dir, usage_bytes, limit_bytes, len(names), sum(names.values()), names=names)


def _files(directory: Place) -> Counter[tuple[str, str]]:
    """What each content in a cache directory takes, by the server that sent it and its id."""
    taken = Counter[tuple[str, str]]()
    for one in scan(directory):
        taken[one.scope, one.content_id] += one.allocated_bytes
    return taken


def _check(config: Config, evictor: Evictor) -> None:
    """Raise `CacheError` unless the disk has what was asked for."""
    wanted_bytes, directory = config.cache_size_bytes, config.cache_dir
    if wanted_bytes is not None and stored_size(directory, 0) != wanted_bytes:
        raise CacheError(
            f"{directory}: the size {size(wanted_bytes)} cannot be kept: is the disk full, or read-only?"
        )
    _check_pins(evictor)
    if evictor.kept_bytes > evictor.limit_bytes:
        kept, usage, limit = map(size, (evictor.kept_bytes, evictor.usage_bytes, evictor.limit_bytes))
        raise CacheError(
            f"{directory}: still {usage} of {limit}: cannot be deleted, because it is pinned, or just being fetched:"
            f" {kept}; 'vbnfs pins' lists the pins, 'vbnfs unpin NAME' takes one away"
        )
    if evictor.usage_bytes > evictor.limit_bytes:
        raise CacheError(
            f"{directory}: still {size(evictor.usage_bytes)} of {size(evictor.limit_bytes)}: its files cannot be"
            " deleted, or another process is deleting some just now; allow it, or try again"
        )


def _check_pins(evictor: Evictor) -> None:
    """Raise `PinError` where something has to go, and it is not known what is pinned."""
    if evictor.pins_problem is not None and evictor.usage_bytes > evictor.limit_bytes:
        raise unread_error(evictor.pins_problem)


def configurations(folder: Path) -> Iterator[Config | UsageError]:
    """The settings of each `*.toml` in a folder, or why a file has none. A folder that is not there has no files.

    Of those that share a cache one is given, with the largest size that any of them names.
    """
    by_cache: dict[Path, Config] = {}
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".toml"))
    except FileNotFoundError:
        return
    except OSError as error:
        yield UsageError(f"{folder}: cannot be read: {error.strerror}")
        return
    for path in map(folder.joinpath, names):
        try:
            config = load_config(command_line={}, config_file=path)
        except UsageError as error:
            yield error
            continue
        sizes = [config.cache_size_bytes, by_cache.get(config.cache_dir, config).cache_size_bytes]
        largest = max((size for size in sizes if size is not None), default=None)
        by_cache[config.cache_dir] = replace(config, cache_size_bytes=largest)
    yield from by_cache.values()
