"""A dataset looked at without a mount: what `versions`, `diff` and `urls` have in common.

The same catalog, client and block cache as a mount's, so that what a command learns or fetches is there for mounts,
and the other way round.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.opening import fetching, make_cache, make_catalog, make_client, scope_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.verdicts import Verdicts
from vbnfs.config.settings import Config
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.contents import Contents, in_order_of_publication
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.dataset.release import Release
from vbnfs.errors import BadReplyError, ChangedError, OfflineError, root_error
from vbnfs.host.private import keep_others_out
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.s3.breaker import BreakerClient

_PIECE_BYTES: Final = 4 << 20  # a reader that goes on evenly is read ahead of, by several GETs at a time

T = TypeVar("T")
ReadWhole = Callable[[DataFile], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What there is of a dataset, in the bucket and in the cache."""

    config: Config
    link: BreakerClient
    catalog: Catalog
    release: Release
    named: Contents
    cache: BlockCache
    metrics: Metrics

    def manifest(self, wanted: str | None) -> Manifest:
        """The manifest of a version (None: of the newest). Raises `DatasetError`, which names those there are."""
        version = self.release.choose(wanted)
        return next(m for m in self.release.manifests if m.dataset_version == version)

    def size_bytes(self, file: DataFile) -> int | None:
        """A file's size; None where S3 would not tell."""
        attributes = self.catalog.sizes.get(self.named.of(file))
        return None if attributes is None else attributes.size_bytes

    def contents(self, files: Iterable[DataFile]) -> dict[str, Content | None]:
        """The different contents of files, by content id; None for one whose size is not known."""
        found: dict[str, Content | None] = {}
        for named in map(self.named.of, files):
            attributes = self.catalog.sizes.get(named)
            found[named.content_id] = None if attributes is None else named.with_attributes(attributes)
        return found

    async def learn_sizes(self, files: Iterable[DataFile]) -> None:
        """Ask for sizes that no listing told, one by one, if S3 can be asked."""
        if not self.release.is_offline:
            await self.catalog.sizes.fetch_all(map(self.named.of, files))


def look_at(config: Config, work: Callable[[Dataset], Awaitable[T]], *, warn: Callable[[str], None]) -> T:
    """Do some work with the dataset, after telling `warn` what is not as it should be. Raises a `VbnfsError`."""

    async def load_and_work() -> T:
        metrics = Metrics()
        async with make_client(config, metrics) as link:
            catalog = make_catalog(config, link)
            release = await catalog.load()
            for problem in _problems(release, is_offline_wanted=config.offline):
                warn(problem)
            named = catalog.contents(in_order_of_publication(release.manifests))
            return await work(Dataset(config, link, catalog, release, named, make_cache(config, metrics), metrics))

    keep_others_out()
    prepare_cache_directory(config.cache_dir)
    try:
        # At checkpoints: raised anywhere, Ctrl-C could come in a destructor, where it is printed and forgotten.
        return trio.run(load_and_work, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        raise root_error(group) from None


def _problems(release: Release, *, is_offline_wanted: bool) -> list[str]:
    """What a user is to know. That nobody was asked is no news where it was asked for."""
    is_news = release.is_offline and not is_offline_wanted
    offline = ["the bucket cannot be reached; this is what is kept from before"] if is_news else []
    doubt = [] if release.doubt is None else [f"{release.doubt}; this is what is kept from before"]
    return [*offline, *doubt, *release.problems]


@asynccontextmanager
async def reading(dataset: Dataset) -> AsyncIterator[ReadWhole]:
    """A function that reads whole files through the cache, while entered.

    It raises a `StorageError`, also where the bytes do not have the manifest's `file_hash`.
    """
    config, cache = dataset.config, dataset.cache
    verdicts = Verdicts(config.cache_dir, scope=scope_of(config.endpoint_url))
    async with fetching(config, dataset.link, cache, verdicts, dataset.metrics) as (source, services):
        prefetcher = Prefetcher(cache, source, nursery=services)

        async def read_as_known(file: DataFile) -> bytes:
            content = await _content(dataset, file)
            return await _whole(file, content, FileReader(content, cache, source, prefetcher, verdicts))

        async def read(file: DataFile) -> bytes:
            try:
                return await read_as_known(file)
            except ChangedError:  # a size that a reply contradicts is asked for again, once
                if not await dataset.catalog.sizes.recheck(dataset.named.of(file)):
                    raise
            return await read_as_known(file)

        yield read


async def _content(dataset: Dataset, file: DataFile) -> Content:
    """What is to be read. Raises at once where that would be in vain: nobody should wait for retries offline."""
    if dataset.release.is_offline:
        [content] = dataset.contents([file]).values()
        if content is None or dataset.cache.cached_bytes(content) < content.size_bytes:
            raise OfflineError(f"{file.version}: not cached, and the bucket is not reached")
        return content
    named = dataset.named.of(file)
    return named.with_attributes(await dataset.catalog.sizes.fetch(named))


async def _whole(file: DataFile, content: Content, reader: FileReader) -> bytes:
    data = bytearray()
    while len(data) < content.size_bytes:
        data += await reader.read(len(data), _PIECE_BYTES)
    if file.file_hash not in {None, hashlib.blake2b(data).hexdigest()}:
        raise BadReplyError(f"{file.version}: its bytes do not have the file_hash that the manifest tells")
    return bytes(data)
