"""What a configuration asks for: the name under which the cache keeps what a server sends."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vbnfs.access.opening import mirror_scope_of, scope_of
from vbnfs.config.sources import load_config

PORTS = {"http": 80, "https": 443}

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
    assert (scope_of(one) == scope_of(other)) == (server_of(one) == server_of(other))


buckets = st.text(alphabet="a-1.", min_size=2, max_size=63).filter(lambda name: name[0] not in ".-")


@given(st.none() | urls, buckets, st.none() | urls, buckets)
@example(None, "a", None, "a-aws")
def test_no_mirror_has_the_scope_of_a_dataset(one: str | None, a: str, other: str | None, b: str) -> None:
    """Server and bucket tell mirrors apart; no mirror's bytes are in the place of a dataset's."""
    mirrors = [mirror_scope_of(one, a), mirror_scope_of(other, b)]
    assert (mirrors[0] == mirrors[1]) == ((a, scope_of(one)) == (b, scope_of(other)))
    for scope in mirrors:
        assert scope not in {scope_of(one), scope_of(other), "aws"}
        assert "/" not in scope
        assert len(scope) <= 255


@given(urls)
def test_a_scope_is_a_file_name(url: str) -> None:
    """One that any file system takes, and that is not AWS's; it can be read back as long as it is not long."""
    scope = scope_of(url)
    assert scope != scope_of(None) == "aws"
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
        scope_of(load_config(command_line={} if url is None else {"endpoint_url": url}).endpoint_url)
        for url in (one, other)
    ]
    assert (scopes[0] == scopes[1]) == is_same
