"""`vbnfs clean --convert`: what an earlier vbnfs cached is taken over, and not fetched again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.opening import scope_of
from vbnfs.access.versions import load_versions
from vbnfs.cache import format_1
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.inventory import CachedContent
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.config.settings import Config
from vbnfs.errors import CacheError
from vbnfs.host.places import Place, folder_at
from vbnfs.objects import Content


@dataclass(frozen=True, slots=True)
class Converted:
    """What was taken over, and the segments that stay: of files of which the dataset's versions do not know.

    Where there are none of this server, `elsewhere` names the servers of which there are.
    """

    taken_bytes: int
    segments: int
    left: int
    elsewhere: Sequence[str] = ()


def convert(config: Config, show: Callable[[int, int], None], *, is_trial: bool) -> Converted:
    """Take over what the cache has of a dataset in format 1. `show` gets how many segments are done, and of how many.

    Raises `CacheError` where the cache does not take a block; what was taken over by then is done. With `is_trial`
    nothing changes, and `taken_bytes` are what the segments take.
    """
    return run_to_the_end(partial(_convert, config, show, is_trial=is_trial))


async def _convert(config: Config, show: Callable[[int, int], None], *, is_trial: bool) -> Converted:
    async with open_dataset(replace(config, offline=True)) as dataset:
        directory = folder_at(config.cache_dir)
        found = format_1.segments(directory, scope=scope_of(config))
        if not found:
            return Converted(0, 0, 0, format_1.scopes(directory))
        versions = await load_versions(dataset)
        files = [file for manifest in versions.release.manifests for file in manifest.files]
        contents = {one.content_id: one for one in versions.contents(files).values() if one is not None}
        if is_trial:
            known = [one for one in found if one.content_id in contents]
            return Converted(sum(one.allocated_bytes for one in known), len(known), len(found) - len(known))
        done = await trio.to_thread.run_sync(_take_over, directory, found, contents, dataset.cache, show)
    if not done.left:
        format_1.remove_rest(directory)
    return done


def _take_over(
    directory: Place,
    found: Sequence[CachedContent],
    contents: Mapping[str, Content],
    cache: BlockCache,
    show: Callable[[int, int], None],
) -> Converted:
    taken_bytes = left = 0
    for number, segment in enumerate(found, 1):
        if format_1.is_in_use(directory, scope=segment.scope):
            raise CacheError(f"{directory}: a mount of an earlier vbnfs uses it: unmount that, and run this again")
        try:
            taken = format_1.convert(directory, segment, contents, cache)
        except FileNotFoundError:  # evicted by another process meanwhile
            continue
        except OSError as error:
            raise CacheError(f"{directory / segment.path}: {error.strerror}; the rest is as it was") from error
        if taken is None:
            left += 1
            continue
        taken_bytes += taken.taken_bytes
        if not taken.is_done:
            raise CacheError(
                f"{directory} takes no more: {cache.failure.strerror if cache.failure else 'unknown reason'};"
                f" {number - 1} of {len(found)} segments are converted, and the rest is as it was: free some on that"
                " disk, and run it again"
            )
        show(number, len(found))
    return Converted(taken_bytes, len(found) - left, left)
