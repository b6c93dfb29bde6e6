"""Whether each site cache serves this machine: it is asked for a byte of the dataset, as reads ask it for blocks.

A proxy that takes connections may refuse this network, or stand before another bucket. Reads go on without it then,
and all of a network asks S3.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from vbnfs.config.datasets import MirrorPlace
from vbnfs.config.settings import Config
from vbnfs.doctor.findings import Finding, good, note, to_do
from vbnfs.doctor.network import make_client, reach
from vbnfs.doctor.throughput import files_of_the_newest
from vbnfs.errors import AccessDeniedError, BadReplyError, DatasetError, ObjectGoneError, StorageError, VbnfsError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ListedObject, RangeRequest

_SAMPLE_SECONDS: Final = 10.0
_REFUSING: Final = (AccessDeniedError, ObjectGoneError, BadReplyError)  # it answers, and not as it should
_REMEDY: Final = "on the machine that it runs on, check --allow and --bucket of 'vbnfs site-cache'"
SECTION: Final = "a-site-cache-does-not-serve"


@dataclass(frozen=True, slots=True)
class SiteCacheFacts:
    """A site cache, and why it failed. Not `is_asked` for a byte: whether it can be reached is all that is known."""

    url: str
    failure: VbnfsError | None
    is_asked: bool


async def ask_site_caches(config: Config, listed: Sequence[ListedObject]) -> tuple[SiteCacheFacts, ...]:
    """Ask each for the first byte of a file. `listed` are the dataset's manifests, none where S3 does not answer."""
    sample = await _sample(config, listed) if listed else None
    found: dict[str, SiteCacheFacts] = {}

    async def ask(url: str) -> None:
        failure = await reach(config, MirrorPlace(endpoint_url=url), sample)
        found[url] = SiteCacheFacts(url, failure, is_asked=sample is not None)

    async with trio.open_nursery() as nursery:
        for url in config.site_cache:
            nursery.start_soon(ask, url)
    return tuple(found[url] for url in config.site_cache)


async def _sample(config: Config, listed: Sequence[ListedObject]) -> RangeRequest | None:
    """The first byte of a file of the newest version that site caches keep; None where S3 says none in time."""
    with trio.move_on_after(_SAMPLE_SECONDS):
        try:
            async with make_client(config, Metrics()) as client:
                for file in await files_of_the_newest(config, client, listed):
                    if file.version.is_immutable and (size_bytes := (await client.head(file.version)).size_bytes):
                        return RangeRequest(file.version, ByteRange(0, 1), size_bytes)
        except (StorageError, DatasetError):
            return None
    return None


def decide_site_caches(found: Iterable[SiteCacheFacts]) -> Iterator[Finding]:
    """Whether each serves."""
    for one in found:
        if one.failure is not None:
            text = f"{one.url} does not serve this machine: {one.failure}; reads go on without it"
            remedy = _REMEDY if isinstance(one.failure, _REFUSING) else one.failure.remedy
            yield to_do(text, remedy, section=SECTION)
        elif one.is_asked:
            yield good(f"{one.url} serves")
        else:
            yield note(f"{one.url} can be reached; S3 names no file to ask it for")
