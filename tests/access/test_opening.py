"""What a configuration asks for: the name under which the cache keeps what a server sends."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore, Pattern
from vbnfs.access import opening
from vbnfs.access.opening import make_limit, make_reading_client, mirror_scope_of, scope_at, scope_of
from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.shared_rate import read_rate, set_rate
from vbnfs.config.sources import load_config
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, RangeRequest, Received
from vbnfs.rate import OFF
from vbnfs.reading.rate_limit import RateLimit
from vbnfs.s3.breaker import BreakerClient

PORTS = {"http": 80, "https": 443}
REGION = "us-west-2"

hosts = st.sampled_from(["aws", "lab", "LAB", "gw", "node_8333", "node", "[::1]", "[::1:80]", "127.0.0.1"])
ports = st.sampled_from(["", ":80", ":443", ":8333", ":0", ":08333"])
paths = st.text(alphabet="aAb/_-.%2F:~+&=", max_size=12).map(lambda text: f"/{text}" if text else "")
long_paths = st.integers(150, 300).map(lambda length: "/" + "a" * length)
urls = st.tuples(st.sampled_from(["http", "https", "HTTP"]), hosts, ports, st.one_of(paths, long_paths)).map(
    lambda parts: "{}://{}{}{}".format(*parts)
)


def server_of(url: str) -> tuple[str, str | None, int, str]:
    """What is asked: two URLs with the same ask the same."""
    parts = urlsplit(url)
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


@given(urls, urls)
def test_no_server_has_the_name_of_another(one: str, other: str) -> None:
    """Scheme, host, port and path tell servers apart; letters of the host, and the scheme's own port, do not."""
    assert (scope_at(one, REGION) == scope_at(other, REGION)) == (server_of(one) == server_of(other))


buckets = st.text(alphabet="a-1.", min_size=2, max_size=63).filter(lambda name: name[0] not in ".-")


@given(st.none() | urls, buckets, st.none() | urls, buckets)
@example(None, "a", None, "a-aws")
def test_no_mirror_has_the_scope_of_a_dataset(one: str | None, a: str, other: str | None, b: str) -> None:
    """Server and bucket tell mirrors apart; no mirror's bytes are in the place of a dataset's."""
    mirrors = [mirror_scope_of(one, REGION, a), mirror_scope_of(other, REGION, b)]
    assert (mirrors[0] == mirrors[1]) == ((a, scope_at(one, REGION)) == (b, scope_at(other, REGION)))
    for scope in mirrors:
        assert scope not in {scope_at(one, REGION), scope_at(other, REGION), "aws"}
        assert "/" not in scope
        assert len(scope) <= 255


@given(urls)
def test_a_scope_is_a_file_name(url: str) -> None:
    """One that any file system takes, and that is not AWS's; it can be read back as long as it is not long."""
    scope = scope_at(url, REGION)
    assert scope != scope_at(None, REGION) == "aws"
    assert not scope.startswith(".")
    assert "/" not in scope
    assert scope.isascii()
    assert len(scope) <= 255 - len(".18446744073709551615")
    if scope.startswith("url-"):
        assert server_of(unquote(scope.removeprefix("url-"))) == server_of(url)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("http://lab", "https://lab", False),
        ("http://gw/a", "http://gw/b", False),
        ("http://gw/a_b", "http://gw_a/b", False),
        ("http://node_8333", "http://node:8333", False),
        ("http://lab:0", "http://lab", False),
        ("http://aws", None, False),
        ("http://Lab:80/", "http://lab", True),
        ("https://lab:443/a/", "https://LAB/a", True),
    ],
)
def test_names_that_were_taken_for_each_other(one: str, other: str | None, is_same: bool) -> None:
    """As they come from the settings."""
    scopes = [
        scope_of(load_config(command_line={} if url is None else {"endpoint_url": url})) for url in (one, other)
    ]
    assert (scopes[0] == scopes[1]) == is_same


@pytest.mark.parametrize(
    ("region", "endpoint", "scope"),
    [
        ("us-west-2", "https://s3.dualstack.us-west-2.amazonaws.com", "aws"),
        ("eu-central-1", "https://s3.amazonaws.com", "aws"),
        ("us-gov-west-1", "https://s3-fips.us-gov-west-1.amazonaws.com", "aws-us-gov"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn", "aws-cn"),
        ("us-iso-east-1", "https://s3.us-iso-east-1.c2s.ic.gov", "aws-iso"),
        ("eusc-de-east-1", "https://s3.eusc-de-east-1.amazonaws.eu", "aws-eusc"),
    ],
)
def test_another_partition_is_another_place(region: str, endpoint: str, scope: str) -> None:
    """A bucket's name is one bucket's in a partition: by the region or by its host, and for mirrors, too."""
    by_region = load_config(command_line={"region": region}, environ={})
    by_host = load_config(command_line={"endpoint_url": endpoint}, environ={})
    assert scope_of(by_region) == scope_of(by_host) == scope
    assert mirror_scope_of(None, region, "lab") == f"mirror-lab-{scope}"


def limit_of(cache: Path, **settings: str) -> RateLimit:
    """The limit of a mount with these settings."""
    config = load_config(command_line={"cache_dir": str(cache), **settings}, environ={})
    return make_limit(config, Metrics(), is_mount=True)


async def test_a_limit_of_all_on_a_cache(tmp_path: Path) -> None:
    """Without a setting the stored rate holds, else that of the settings, which is then stored for the others."""
    tmp_path.chmod(0o700)
    assert limit_of(tmp_path).rate == OFF
    one = limit_of(tmp_path, limit_rate="5M")
    assert (one.rate, read_rate(tmp_path).rate, one.report()["is_shared"]) == (5 << 20, 5 << 20, True)
    assert limit_of(tmp_path).rate == 5 << 20
    set_rate(tmp_path, OFF)
    await one.learn()
    assert one.rate == OFF


async def test_a_limit_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system of other hosts each process keeps to the rate by itself, and knows that."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr(opening, "is_local", lambda path: False)
    limit = limit_of(tmp_path, limit_rate="5M")
    assert (limit.report()["rate_bytes"], limit.report()["is_shared"]) == (5 << 20, False)


async def test_a_limit_on_a_cache_that_takes_nothing(tmp_path: Path) -> None:
    """Where the rate cannot be stored, that of the settings holds for this process, whatever is stored."""
    tmp_path.chmod(0o700)
    (tmp_path / FORMAT).write_text("no folder")
    limit = limit_of(tmp_path, limit_rate="5M")
    await limit.learn()
    assert limit.rate == 5 << 20


async def test_a_full_line_has_fewer_gets(autojump_clock: MockClock) -> None:
    """Where many GETs bring nothing while others get on, fewer run at a time; all of them again when it is over."""
    size, version = 10_000_000, ObjectVersion("a.nwb", "1")
    inner = MemoryClient(MemoryStore())
    inner.store.put("a.nwb", Pattern(size), version_id="1")
    config = load_config(command_line={})
    client, paced = make_reading_client(config, BreakerClient(inner), Metrics())
    most, gate = paced.short_gets, inner.hold(lambda request: request.byte_range.start >= 1000)

    async def take(_: Received) -> None:
        """Nothing is kept."""

    async def fetch(start: int) -> None:
        await client.get_range(RangeRequest(version, ByteRange(start, start + 1000), size), take)

    async with trio.open_nursery() as nursery:
        for number in range(1, 11):
            nursery.start_soon(fetch, number * 1000)
        for _ in range(20):
            await trio.sleep(0.5)
            await fetch(0)
        assert most // 4 < paced.short_gets <= most // 2
        gate.open()
    for _ in range(most * most):
        await fetch(0)
    assert paced.short_gets == most
