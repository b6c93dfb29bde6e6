"""Whether the servers that are asked before S3, a mirror and site caches, serve this machine, and serve what S3 has.

Each is asked for the beginning of a file, as reads ask it for blocks, and that is held against what S3 sends. One
that takes connections may refuse this network, stand before another bucket, or have a damaged disk. Where it refuses,
reads go on without it, and all of a network asks S3.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from vbnfs.config.datasets import MirrorPlace
from vbnfs.config.settings import Config
from vbnfs.doctor.findings import Finding, good, note, to_do
from vbnfs.doctor.network import make_client
from vbnfs.doctor.throughput import files_of_the_newest
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    DatasetError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
    TransportError,
    UsageError,
    VbnfsError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ListedObject, ObjectVersion, Piece, RangeRequest, Received
from vbnfs.s3.client import S3Client

SAMPLE_BYTES: Final = 4096
_SAMPLE_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 15.0
_REFUSING: Final = (AccessDeniedError, ObjectGoneError, BadReplyError)  # it answers, and not as it should
_MIRROR_REMEDY: Final = "check bucket and endpoint_url of --mirror, and that everybody may read what it has"
_SITE_CACHE_REMEDY: Final = "on the machine that it runs on, check --allow and --bucket of 'vbnfs site-cache'"
_WRONG_REMEDY: Final = "check its disk, and have it fetch or copy all anew"
SECTION: Final = "a-site-cache-or-a-mirror-does-not-serve"


@dataclass(frozen=True, slots=True)
class Sample:
    """The first bytes of an object, which has `size_bytes`, as S3 sends them."""

    version: ObjectVersion
    size_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class NearbyFacts:
    """A server, and why it failed. `asked` for this object; None: whether it can be reached is all that is known.

    `is_wrong`: it sends other bytes than S3. `is_mirror`: it may have some of the objects alone.
    """

    name: str
    failure: VbnfsError | None = None
    asked: ObjectVersion | None = None
    is_wrong: bool = False
    is_mirror: bool = False


async def ask_mirror(config: Config, listed: Sequence[ListedObject]) -> tuple[NearbyFacts, ...]:
    """Ask the mirror, if there is one. `listed` are the dataset's manifests, none where S3 does not answer."""
    if config.mirror is None:
        return ()
    sample = await _sample(config, listed)
    asked = None if sample is None else replace(sample, version=ObjectVersion(sample.version.key, None))
    facts = await _ask(_config_of(config, config.mirror), str(config.mirror), asked)
    return (replace(facts, is_mirror=True),)


async def ask_site_caches(config: Config, listed: Sequence[ListedObject]) -> tuple[NearbyFacts, ...]:
    """Ask each site cache, as `ask_mirror`."""
    sample, found = await _sample(config, listed), dict[str, NearbyFacts]()

    async def ask(url: str) -> None:
        found[url] = await _ask(_config_of(config, MirrorPlace(endpoint_url=url)), url, sample)

    async with trio.open_nursery() as nursery:
        for url in config.site_cache:
            nursery.start_soon(ask, url)
    return tuple(found[url] for url in config.site_cache)


def _config_of(config: Config, place: MirrorPlace) -> Config:
    """What it takes to ask a server. What its place does not name is the dataset's."""
    return replace(
        config,
        bucket=place.bucket or config.bucket,
        region=place.region or config.region,
        endpoint_url=place.endpoint_url,
        ca_bundle=place.ca_bundle or config.ca_bundle,
        max_connections=1,
    )


async def _sample(config: Config, listed: Sequence[ListedObject]) -> Sample | None:
    """Of a file of the newest version that such servers are asked for; None where S3 gives none in time."""
    with trio.move_on_after(_SAMPLE_SECONDS):
        try:
            async with make_client(config, Metrics()) as client:
                for file in await files_of_the_newest(config, client, listed) if listed else ():
                    if file.version.is_immutable and (size_bytes := (await client.head(file.version)).size_bytes):
                        sample = Sample(file.version, size_bytes, b"")
                        return replace(sample, data=await _sent(client, sample))
        except (StorageError, DatasetError):
            return None
    return None


async def _sent(client: S3Client, sample: Sample) -> bytes:
    """The first bytes of the sample's object, as a server sends them. Raises a `StorageError`."""
    sent = bytearray()

    async def receive(received: Received) -> None:
        if isinstance(received, Piece):
            sent.extend(received.data)

    wanted = ByteRange(0, SAMPLE_BYTES).clip(sample.size_bytes)
    await client.get_range(RangeRequest(sample.version, wanted, sample.size_bytes), receive)
    return bytes(sent)


async def _ask(config: Config, name: str, sample: Sample | None) -> NearbyFacts:
    """What a server answers within its time."""
    facts = NearbyFacts(name, asked=None if sample is None else sample.version)
    with trio.move_on_after(_ANSWER_SECONDS):
        try:
            async with make_client(config, Metrics()) as client:
                await client.reach()
                is_wrong = sample is not None and await _sent(client, sample) != sample.data
                return replace(facts, is_wrong=is_wrong)
        except (StorageError, UsageError) as error:
            return replace(facts, failure=error)
    return replace(facts, failure=TransportError(f"no answer within {_ANSWER_SECONDS:.0f} s"))


def decide(found: Iterable[NearbyFacts]) -> Iterator[Finding]:
    """Whether each serves what S3 has."""
    for one in found:
        lacks = isinstance(one.failure, ObjectGoneError) and not isinstance(one.failure, NoBucketError)
        if one.is_wrong:
            yield to_do(f"{one.name} sends other bytes than S3: of {one.asked}", _WRONG_REMEDY, section=SECTION)
        elif one.is_mirror and lacks and one.asked is not None:
            yield note(f"{one.name} answers; it does not have {one.asked}, which comes from S3")
        elif one.failure is not None:
            text = f"{one.name} does not serve this machine: {one.failure}; reads go on without it"
            yield to_do(text, _remedy(one, one.failure), section=SECTION)
        elif one.asked is not None:
            yield good(f"{one.name} serves what S3 has")
        else:
            yield note(f"{one.name} can be reached; S3 names no file to ask it for")


def _remedy(one: NearbyFacts, failure: VbnfsError) -> str:
    if not isinstance(failure, _REFUSING):
        return failure.remedy
    return _MIRROR_REMEDY if one.is_mirror else _SITE_CACHE_REMEDY
