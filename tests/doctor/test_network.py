"""Name, proxy, certificates, clock, server and throughput of real servers on loopback, well and not."""

import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.certificates import make_certificate
from tests.fakes.dataset import FakeDataset, serve
from tests.fakes.http_proxy import HttpProxy
from tests.fakes.s3_server import Behaviour, FakeS3Server, always, error, for_kind, header, held
from tests.fakes.store import Pattern
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.doctor import nearby, network, throughput
from vbnfs.doctor.findings import Finding, Level
from vbnfs.errors import AccessDeniedError, ProxyError, UntrustedServerError, UsageError

SESSION = "ecephys_sessions/ecephys_session_1044385384.nwb"
FILES = {
    "project_metadata/units.csv": b"unit_id\n1\n",
    SESSION: Pattern(9_000_000),
    "ecephys_sessions/ecephys_session_2.nwb": Pattern(1_000),
}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with two versions."""
    with serve({"0.4.0": {SESSION: b"old"}, "0.5.0": FILES}) as server:
        yield server


def now() -> Behaviour:
    """As servers do, and this one does not: it says what time it is."""
    return lambda _request, honest: honest.with_headers(Date=format_datetime(datetime.now(UTC), usegmt=True))


def config_for(endpoint_url: str, **settings: str) -> Config:
    return load_config(command_line={"endpoint_url": endpoint_url, **settings}, environ={})


async def found_at(config: Config) -> dict[str, Finding]:
    """The findings of the network, by check."""
    name, facts = await network.ask_name(config), await network.ask_server(config)
    found = {
        "clock": network.decide_clock(facts),
        "name": network.decide_name(name),
        "proxy": network.decide_proxy(name, facts),
        "certificates": network.decide_certificates(facts),
        "server": network.decide_server(name, facts),
    }
    return {check: next(iter(findings)) for check, findings in found.items()}


def needing(found: dict[str, Finding]) -> list[str]:
    return [check for check, finding in found.items() if finding.level is Level.TO_DO]


async def test_a_server_that_is_well(server: FakeS3Server) -> None:
    """The versions are listed, the clock is compared, and no byte of a data file is fetched for that."""
    server.behaviours.append(now())
    found = await found_at(config_for(server.endpoint_url))
    assert needing(found) == []
    assert found["server"].text.endswith("answers; 2 dataset versions")
    assert found["clock"].level in {Level.GOOD, Level.NOTE}  # a busy machine reads it late
    assert server.count("get_range") == server.count("get_object") == 0


@pytest.mark.parametrize(("days", "side"), [(3, "behind"), (-3, "ahead of")])
async def test_a_wrong_clock(server: FakeS3Server, days: int, side: str) -> None:
    """A server whose Date is days away shows that this machine's clock is wrong, without TLS, too."""
    server.behaviours.append(header(Date=format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)))
    found = await found_at(config_for(server.endpoint_url))
    assert needing(found) == ["clock"]
    assert f"{side} the server's" in found["clock"].text
    assert "timedatectl" in found["clock"].remedy


async def test_a_server_that_does_not_say_the_time(server: FakeS3Server) -> None:
    """With a Date that is none the clock is left out."""
    server.behaviours.append(header(Date="some day"))
    assert (await found_at(config_for(server.endpoint_url)))["clock"].level is Level.LEFT_OUT


async def test_a_certificate_that_is_unknown(server: FakeS3Server, tmp_path: Path) -> None:
    """A certificate that signs itself is no trusted one until it is named; the clock is compared all the same."""
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    with FakeS3Server(server.store, tls=certificate.server_context()) as tls:
        tls.behaviours.append(now())
        found = await found_at(config_for(tls.endpoint_url))
        assert needing(found) == ["certificates"]
        assert isinstance(found["certificates"].error, UntrustedServerError)
        assert "--ca-bundle" in found["certificates"].remedy
        trusting = await found_at(config_for(tls.endpoint_url, ca_bundle=str(certificate.path)))
        assert needing(trusting) == []
        assert trusting["clock"].level in {Level.GOOD, Level.NOTE}


async def test_certificates_that_are_not_there(server: FakeS3Server, tmp_path: Path) -> None:
    """A file of certificates that is missing is said of the certificates, and nothing is asked."""
    found = await found_at(config_for("https://127.0.0.1:1", ca_bundle=str(tmp_path / "none.pem")))
    assert needing(found) == ["certificates"]
    assert isinstance(found["certificates"].error, UsageError)


async def test_a_proxy_that_is_not_there(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy at which nothing listens is to blame, and not the server; a name that is no host's is the name's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://anna:hunter2@127.0.0.1:{port}")
    found = await found_at(config_for(server.endpoint_url))
    assert needing(found) == ["proxy"]
    assert isinstance(found["proxy"].error, ProxyError)
    assert "hunter2" not in found["proxy"].text
    monkeypatch.setenv("HTTP_PROXY", "http://no-such-host.invalid:3128")
    found = await found_at(config_for("http://192.0.2.1:8333"))
    assert needing(found) == ["name"]
    assert "the proxy's name no-such-host.invalid cannot be looked up" in found["name"].text
    monkeypatch.setenv("HTTP_PROXY", "ftp://proxy:1")
    found = await found_at(config_for("http://192.0.2.1:8333"))
    assert needing(found) == ["proxy"]
    assert isinstance(found["proxy"].error, UsageError)


async def test_a_proxy_that_leads_there(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a proxy all is asked, the time too, and the proxy's name is what is looked up."""
    with HttpProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        found = await found_at(config_for(server.endpoint_url))
        assert needing(found) == []
        assert found["proxy"].text == f"{proxy.url} (HTTP_PROXY)"
        assert len(proxy.asked) == len(server.requests) > 1


async def test_a_name_that_no_host_has() -> None:
    """A server whose name is not known is the name's fault (RFC 6761: .invalid), with the remedy there."""
    found = await found_at(config_for("https://s3.example.invalid"))
    assert needing(found) == ["name"]
    assert "--endpoint-url" in found["name"].remedy


async def test_a_server_that_is_not_there() -> None:
    """A port at which nothing listens is the server's fault."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = await found_at(config_for(f"http://127.0.0.1:{port}"))
    assert needing(found) == ["server"]
    assert "Connection refused" in found["server"].text


async def test_a_bucket_that_forbids(server: FakeS3Server) -> None:
    """A refusal is said with its remedy; where listing alone is forbidden, versions that are known by name count."""
    server.behaviours[:] = [for_kind("list_objects", always(error(403, "AccessDenied")))]
    named = await found_at(config_for(server.endpoint_url))
    assert (needing(named), named["server"].text.rpartition("; ")[2]) == ([], "2 dataset versions")
    server.behaviours[:] = [always(error(403, "AccessDenied"))]
    found = await found_at(config_for(server.endpoint_url))
    assert needing(found) == ["server"]
    assert isinstance(found["server"].error, AccessDeniedError)


async def test_a_bucket_without_the_dataset() -> None:
    """A bucket that has no manifest of the project is a finding."""
    with FakeS3Server(FakeDataset().store) as empty:
        found = await found_at(config_for(empty.endpoint_url))
    assert needing(found) == ["server"]
    assert "check --bucket and --project" in found["server"].text


async def nearby_of(config: Config) -> list[Finding]:
    """What is found of the mirror and of site caches."""
    listed = (await network.ask_server(config)).listed
    facts = (*await nearby.ask_mirror(config, listed), *await nearby.ask_site_caches(config, listed))
    return list(nearby.decide(facts))


async def test_the_mirror(server: FakeS3Server) -> None:
    """It is asked for the beginning of a file by its key: that it has that, lacks it, or refuses it is a finding."""
    assert await nearby_of(config_for(server.endpoint_url)) == []
    with FakeS3Server(server.store) as mirror, serve({"0.1.0": {"a.csv": b"1"}}) as other:
        there = config_for(server.endpoint_url, mirror=f"endpoint_url={mirror.endpoint_url}")
        [well] = await nearby_of(there)
        [asked] = mirror.requests
        assert (asked.kind, asked.headers["range"], asked.query) == ("get_range", "bytes=0-4095", {})
        assert (well.level, well.text) == (Level.GOOD, f"endpoint_url={mirror.endpoint_url} serves what S3 has")
        mirror.behaviours.append(always(error(403, "AccessDenied")))
        [refused] = await nearby_of(there)
        assert (refused.level, "everybody may read" in refused.remedy) == (Level.TO_DO, True)
        [lacking] = await nearby_of(config_for(server.endpoint_url, mirror=f"endpoint_url={other.endpoint_url}"))
        assert lacking.level is Level.NOTE
        assert re.search(r"answers; it does not have .*\.nwb, which comes from S3$", lacking.text)
    [gone] = await nearby_of(config_for(server.endpoint_url, mirror="endpoint_url=http://127.0.0.1:1"))
    assert gone.level is Level.TO_DO
    assert "Connection refused; reads go on without it" in gone.text


async def test_servers_that_send_wrong_bytes(server: FakeS3Server) -> None:
    """A mirror and a site cache whose bytes are not S3's need something done, though all else of a reply is right."""
    damaged = {SESSION: Pattern(9_000_000, seed=7), "ecephys_sessions/ecephys_session_2.nwb": b"x" * 1000}
    with serve({"0.4.0": {SESSION: b"old"}, "0.5.0": {**FILES, **damaged}}) as wrong:
        url = wrong.endpoint_url
        config = config_for(server.endpoint_url, mirror=f"endpoint_url={url}", site_cache=url)
        mirror, site_cache = await nearby_of(config)
    assert (mirror.level, site_cache.level) == (Level.TO_DO, Level.TO_DO)
    assert f"{url} sends other bytes than S3: of " in mirror.text
    assert "check its disk" in site_cache.remedy


async def test_site_caches(server: FakeS3Server) -> None:
    """Each is asked for a part of an object version: one that refuses it is a finding, though it can be reached."""
    with FakeS3Server(server.store) as well, FakeS3Server(server.store) as refusing:
        refusing.behaviours.append(always(error(403, "AccessDenied")))
        urls = f"{well.endpoint_url},{refusing.endpoint_url},http://127.0.0.1:1"
        config = config_for(server.endpoint_url, site_cache=urls)
        listed = (await network.ask_server(config)).listed
        good, refused, gone = await nearby_of(config)
        [asked] = well.requests
        assert (asked.kind, asked.headers["range"], "versionId" in asked.query) == ("get_range", "bytes=0-4095", True)
        assert (good.level, good.text) == (Level.GOOD, f"{well.endpoint_url} serves what S3 has")
        assert (refused.level, gone.level) == (Level.TO_DO, Level.TO_DO)
        assert refused.text.startswith(f"{refusing.endpoint_url} does not serve this machine: ")
        assert "--allow" in refused.remedy
        assert "Connection refused; reads go on without it" in gone.text
        well.forget_requests()
        server.behaviours.append(always(error(503, "SlowDown")))
        for manifests in ((), listed):
            facts = await nearby.ask_site_caches(config, manifests)
            reached, *_ = nearby.decide(facts)
            assert (reached.level, reached.text) == (
                Level.NOTE,
                f"{well.endpoint_url} can be reached; S3 names no file to ask it for",
            )
        assert well.requests == []


async def test_a_site_cache_that_hangs(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes connections and answers nothing is named after its time; another one is judged all the same."""
    monkeypatch.setattr(nearby, "_ANSWER_SECONDS", 1.0)
    gate = threading.Event()
    with FakeS3Server(server.store) as well, FakeS3Server(server.store) as hanging:
        hanging.behaviours.append(held(gate))
        url = hanging.endpoint_url
        try:
            hangs, serves = await nearby_of(config_for(server.endpoint_url, site_cache=f"{url},{well.endpoint_url}"))
        finally:
            gate.set()
    assert (hangs.level, serves.level) == (Level.TO_DO, Level.GOOD)
    assert hangs.text.startswith(f"{url} does not serve this machine: no answer within 1 s")


async def test_throughput_is_of_8_mib(server: FakeS3Server) -> None:
    """Of the largest of some files of the newest version, 8 MiB come in eight ranges, and no byte more."""
    config = config_for(server.endpoint_url)
    facts = await network.ask_server(config)
    server.forget_requests()
    measured = await throughput.measure(config, facts.listed)
    assert (measured.count_bytes, measured.failure) == (8 << 20, None)
    ranges = [request for request in server.requests if request.kind == "get_range"]
    assert [request.key.endswith(SESSION) for request in ranges] == [True] * 8
    assert (server.count("get_object"), server.count("head")) == (1, 3)


@pytest.mark.parametrize(
    ("files", "behaviour", "expected"),
    [
        ({"a.nwb": b"1234"}, None, {"count_bytes": 4, "failure": None, "reason": None}),
        ({"a.nwb": b""}, None, {"count_bytes": 0, "failure": None}),
        ({"a.nwb": b"1234"}, always(error(503, "SlowDown")), {"count_bytes": 0, "reason": None}),
    ],
)
async def test_throughput_of_little(files: dict[str, bytes], behaviour: Any, expected: dict[str, Any]) -> None:
    """Small files are read whole, empty ones are left out, and a server that refuses is a failure."""
    with serve({"0.1.0": files}) as small:
        config = config_for(small.endpoint_url)
        facts = await network.ask_server(config)
        small.behaviours += [behaviour] if behaviour is not None else []
        measured = await throughput.measure(config, facts.listed)
    assert {name: getattr(measured, name) for name in expected} == expected
    assert (measured.failure is not None) == (behaviour is not None)
    assert (measured.reason is not None) == (files == {"a.nwb": b""})
