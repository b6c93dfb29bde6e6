"""How fast the dataset's bucket sends: some MiB of one file, by several ranges at the same time, and not stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from vbnfs.config.settings import MIB, Config
from vbnfs.dataset.kinds import SESSION, kind_of
from vbnfs.dataset.manifest import MAX_MANIFEST_BYTES, DataFile, Origin, parse_manifest, version_of_file_name
from vbnfs.doctor.disk import DiskFacts
from vbnfs.doctor.findings import Finding, failed, good, left_out, note, size_text
from vbnfs.doctor.network import ServerFacts, make_client
from vbnfs.errors import DatasetError, StorageError, VbnfsError, root_error
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ListedObject, ObjectVersion, RangeRequest, Received
from vbnfs.rate import OFF, rate_text
from vbnfs.s3.client import S3Client

RANGES: Final = 8
RANGE_BYTES: Final = MIB
_LONGEST_SECONDS: Final = 10.0
_CANDIDATES: Final = 4  # files, of which the largest is read
_SLOW_BYTES: Final = 1_000_000  # a second
_TELLING_SECONDS: Final = 1.0  # after less, mostly of connecting, a rate says little


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputFacts:
    """So many bytes came in so many seconds. `reason`: why nothing was asked for."""

    count_bytes: int = 0
    seconds: float = 0.0
    reason: str | None = None
    failure: VbnfsError | None = None


def why_not_measured(config: Config, server: ServerFacts | None, disk: DiskFacts | None) -> str | None:
    """Why nothing is to be asked for; None if it is (pure). None for `server`, `disk`: they do not answer."""
    if server is None or not server.listed:
        return "see server"
    rate = config.limit_rate_bytes if disk is None or config.limit_rate_bytes is not None else disk.rate_bytes
    if rate is not None and rate != OFF:
        return f"a limit of {rate_text(rate)} holds, which this would exceed ('vbnfs limit-rate' shows it)"
    return None


async def measure(config: Config, listed: Sequence[ListedObject]) -> ThroughputFacts:
    """Fetch a part of the largest of some files of the newest version: for ten seconds at the most."""
    metrics = Metrics()
    try:
        async with make_client(config, metrics) as client:
            version, size_bytes = await _largest(client, await files_of_the_newest(config, client, listed))
            if not size_bytes:
                return ThroughputFacts(reason="the newest dataset version has no file with anything in it")
            began = trio.current_time()
            with trio.move_on_after(_LONGEST_SECONDS):
                await _fetch(client, version, size_bytes)
            return ThroughputFacts(count_bytes=metrics.received_bytes, seconds=trio.current_time() - began)
    except* (StorageError, DatasetError) as group:
        first = root_error(group)
        failure = first if isinstance(first, VbnfsError) else DatasetError(str(first))
    return ThroughputFacts(failure=failure)


async def files_of_the_newest(config: Config, client: S3Client, listed: Sequence[ListedObject]) -> list[DataFile]:
    """Some files of the newest version, sessions first. Raises a `StorageError`, `ManifestError`."""
    by_version = {
        version: one for one in listed if (version := version_of_file_name(one.key.rpartition("/")[2])) is not None
    }
    newest = by_version[max(by_version)]
    data = await client.get_object(newest.key, max_bytes=MAX_MANIFEST_BYTES)
    origin = Origin(config.bucket, config.endpoint_url)
    parse = partial(parse_manifest, data, file_name=newest.key.rpartition("/")[2], modified_ns=0, origin=origin)
    manifest = await trio.to_thread.run_sync(parse)
    return sorted(manifest.files, key=lambda file: kind_of(file.path).kind != SESSION)[:_CANDIDATES]


async def _largest(client: S3Client, files: Sequence[DataFile]) -> tuple[ObjectVersion, int]:
    """The object of the largest of some files, and its size in bytes; 0 if there is none. Raises a `StorageError`."""
    sizes: dict[ObjectVersion, int] = {ObjectVersion("", None): 0}

    async def learn(version: ObjectVersion) -> None:
        sizes[version] = (await client.head(version)).size_bytes

    async with trio.open_nursery() as nursery:
        for file in files:
            nursery.start_soon(learn, file.version)
    return max(sizes.items(), key=lambda item: item[1])


async def _fetch(client: S3Client, version: ObjectVersion, size_bytes: int) -> None:
    """Its beginning, in ranges that are asked for at the same time. Raises a `StorageError`."""

    async def receive(_received: Received) -> None:
        pass  # the client counts it

    async with trio.open_nursery() as nursery:
        for start in range(0, min(size_bytes, RANGES * RANGE_BYTES), RANGE_BYTES):
            byte_range = ByteRange(start, start + RANGE_BYTES).clip(size_bytes)
            nursery.start_soon(client.get_range, RangeRequest(version, byte_range, size_bytes), receive)


def decide_throughput(facts: ThroughputFacts) -> Iterator[Finding]:
    """How fast it is."""
    if facts.reason is not None:
        yield left_out(facts.reason)
    elif facts.failure is not None:
        yield failed(facts.failure)
    else:
        rate = facts.count_bytes / max(facts.seconds, 1e-3)
        text = f"{size_text(facts.count_bytes)} in {facts.seconds:.1f} s: {rate / 1e6:.1f} MB/s"
        slow = "; with less than 1 MB/s, opening a session takes minutes: fetch it ahead ('vbnfs prefetch')"
        yield note(text + slow) if rate < _SLOW_BYTES and facts.seconds > _TELLING_SECONDS else good(text)
