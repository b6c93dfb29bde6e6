"""What the network says: name, proxy, certificates, clock and server, and what that means.

Each failure is said once, by the check that it belongs to; the others name that check.
"""

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from vbnfs.access.opening import route_of
from vbnfs.config.environment import variables
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import Origin
from vbnfs.dataset.release import ReleaseReader
from vbnfs.dataset.stored_files import StoredFolder
from vbnfs.doctor.findings import Finding, counted, failed, good, left_out, note, to_do
from vbnfs.errors import (
    DatasetError,
    ProxyDeniedError,
    ProxyError,
    StorageError,
    UnreachableError,
    UntrustedServerError,
    UsageError,
    VbnfsError,
    WrongClockError,
)
from vbnfs.host.places import Anchor, Place
from vbnfs.metrics import Metrics
from vbnfs.objects import ListedObject
from vbnfs.s3.addresses import bucket_base
from vbnfs.s3.client import S3Client
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.retry import RetryingClient

_ATTEMPTS: Final = 3
_AGAIN_SECONDS: Final = 5.0
_WELL_SECONDS: Final = 2.0  # a Date has whole seconds
_MOST_SECONDS: Final = 900.0  # RequestTimeTooSkewed: Amazon S3 API, "Error responses"
_SERVER: Final = "the-server-cannot-be-reached"
_CLOCK: Final = "certificate-verify-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFacts:
    """The name that is looked up first: the server's, or the proxy's that is asked in its place."""

    name: str
    is_proxy: bool = False
    is_address: bool = False
    addresses: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """`wrong_proxy`, `wrong_trust`: the variable or setting cannot be used. `listed` are the dataset's manifests."""

    server: str
    proxy: Proxy | None = None
    trusted: str = ""
    wrong_proxy: UsageError | None = None
    wrong_trust: UsageError | None = None
    failure: VbnfsError | None = None
    listed: tuple[ListedObject, ...] = ()
    ahead_seconds: float | None = None  # this machine's clock, of the server's; None: the server does not say

    @property
    def has_tls(self) -> bool:
        """Whether its certificate is checked."""
        return self.server.startswith("https://")


def make_client(config: Config, metrics: Metrics) -> S3Client:
    """A client of the dataset's bucket. Raises `UsageError`."""
    return S3Client(
        bucket=config.bucket,
        region=config.region,
        endpoint_url=config.endpoint_url,
        ca_bundle=config.ca_bundle,
        environ=variables(),
        max_connections=config.max_connections,
        metrics=metrics,
    )


async def ask_name(config: Config) -> NameFacts:
    """Look up the name of the server, or of the proxy."""
    host, proxy = urlsplit(_server_of(config)).hostname or "", None
    with suppress(UsageError):  # which `ask_server` reports
        proxy = route_of(config).proxy
    facts = NameFacts(name=host if proxy is None else proxy.host, is_proxy=proxy is not None)
    with suppress(ValueError):
        ipaddress.ip_address(facts.name)
        return replace(facts, is_address=True)
    look_up = partial(socket.getaddrinfo, facts.name, None, type=socket.SOCK_STREAM)
    try:
        found = await trio.to_thread.run_sync(look_up, abandon_on_cancel=True)
    except OSError as error:
        return replace(facts, problem=error.strerror or str(error))
    return replace(facts, addresses=len({address for *_, address in found}))


async def ask_server(config: Config) -> ServerFacts:
    """Ask the server for the dataset's versions, and for its time."""
    facts = ServerFacts(server=_server_of(config))
    try:
        route = route_of(config)
    except UsageError as error:
        return replace(facts, wrong_proxy=error)
    facts = replace(facts, proxy=route.proxy, trusted=", ".join(map(str, route.places)))
    try:
        client = make_client(config, Metrics())
    except UsageError as error:
        return replace(facts, wrong_trust=error)
    async with client:
        return await _ask(config, client, facts)


async def _ask(config: Config, client: S3Client, facts: ServerFacts) -> ServerFacts:
    found: dict[str, Any] = {}

    async def ask_time() -> None:
        server_time = await client.server_time()
        found["ahead_seconds"] = None if server_time is None else time.time() - server_time

    async def list_versions() -> None:
        try:
            found["listed"] = await _manifests(config, client)
        except (StorageError, DatasetError) as error:
            found["failure"] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_time)
        nursery.start_soon(list_versions)
    return replace(facts, **found)


async def _manifests(config: Config, client: S3Client) -> tuple[ListedObject, ...]:
    """The dataset's manifests, as a mount finds them. Nothing is stored. Raises a `StorageError`, `DatasetError`."""
    nowhere = StoredFolder(Place(Anchor(Path("/nonexistent"), at_once=False)))
    origin = Origin(config.bucket, config.endpoint_url)
    asking = RetryingClient(client, seconds=_AGAIN_SECONDS, attempts=_ATTEMPTS)
    reader = ReleaseReader(asking, nowhere, origin=origin, project=config.project, versions=config.versions)
    try:
        return tuple(await reader.list_manifests())
    except (StorageError, DatasetError) as error:
        if named := (await reader.without_list((), error)).named:
            return named
        raise


def _server_of(config: Config) -> str:
    return bucket_base(config.bucket, config.region, config.endpoint_url)


# What it means


def decide_clock(facts: ServerFacts) -> Iterator[Finding]:
    """Whether this machine's clock is right, by the server's."""
    ahead = facts.ahead_seconds
    if isinstance(facts.failure, WrongClockError):
        yield failed(facts.failure)
    elif ahead is None:
        yield left_out("no server says what time it is")
    elif abs(ahead) <= _WELL_SECONDS:
        yield good("as the server's")
    else:
        text = f"this machine's clock is {_duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the server's"
        is_far = abs(ahead) > _MOST_SECONDS
        yield to_do(text, WrongClockError.remedy.partition(",")[0], section=_CLOCK) if is_far else note(text)


def _duration(seconds: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if (count := int(seconds // unit)) > 0:
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    return f"{seconds:.0f} seconds"


def decide_name(facts: NameFacts) -> Iterator[Finding]:
    """Whether the name is known."""
    if facts.problem is not None:
        what = "the proxy's name" if facts.is_proxy else "the server's name"
        where = "the variable that names the proxy" if facts.is_proxy else "--endpoint-url and --region"
        yield to_do(
            f"{what} {facts.name} cannot be looked up: {facts.problem}",
            f"check the network and its name server (/etc/resolv.conf), and {where}",
            section="behind-a-proxy" if facts.is_proxy else _SERVER,
        )
    elif facts.is_address:
        yield good(f"{facts.name} is an address")
    else:
        count = "1 address" if facts.addresses == 1 else f"{facts.addresses:,} addresses"
        yield good(f"{facts.name} is known: {count}")


def decide_proxy(name: NameFacts, facts: ServerFacts) -> Iterator[Finding]:
    """Whether a proxy that is named lets us through."""
    if facts.wrong_proxy is not None:
        yield failed(facts.wrong_proxy)
    elif facts.proxy is None:
        yield good("none")
    elif name.problem is not None:
        yield _see("name")
    elif isinstance(facts.failure, ProxyError | ProxyDeniedError):
        yield failed(facts.failure)
    else:
        yield good(str(facts.proxy))


def decide_certificates(facts: ServerFacts) -> Iterator[Finding]:
    """Whether the server's certificate is trusted."""
    if facts.wrong_proxy is not None:
        yield _see("proxy")
    elif facts.wrong_trust is not None:
        yield failed(facts.wrong_trust)
    elif isinstance(facts.failure, WrongClockError):
        yield _see("clock")
    elif isinstance(facts.failure, UntrustedServerError):
        yield failed(facts.failure)
    elif not facts.has_tls:
        yield note("none is needed: the server is asked without TLS")
    else:
        yield good(f"trusted: {facts.trusted}")


def decide_server(name: NameFacts, facts: ServerFacts) -> Iterator[Finding]:
    """Whether the server gives the dataset's versions."""
    elsewhere = _belongs_to(name, facts)
    if elsewhere is not None:
        yield _see(elsewhere)
    elif facts.failure is not None:
        yield failed(facts.failure)
    else:
        yield good(f"{facts.server} answers; {counted(len(facts.listed), 'dataset version')}")


def _belongs_to(name: NameFacts, facts: ServerFacts) -> str | None:
    """The check to which what keeps the server from answering belongs; None if it is that of the server itself."""
    failure = facts.failure
    if facts.wrong_proxy is not None:
        return "proxy"
    if facts.wrong_trust is not None:
        return "certificates"
    if name.problem is not None and isinstance(failure, UnreachableError):
        return "name"
    if isinstance(failure, ProxyError | ProxyDeniedError):
        return "proxy"
    if isinstance(failure, WrongClockError):
        return "clock"
    return "certificates" if isinstance(failure, UntrustedServerError) else None


def _see(check: str) -> Finding:
    return left_out(f"see {check}")
