"""Which servers are trusted."""

import os
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

from tests.fakes.certificates import Certificate, make_certificate
from tests.fakes.http_proxy import HttpProxy
from tests.fakes.s3_server import FakeS3Server, header
from tests.fakes.store import MemoryStore
from tests.s3.asking import SIZE, VERSION, WANTED, Received, ask, fetch, open_client
from vbnfs.errors import (
    ExpiredError,
    UntrustedServerError,
    UsageError,
    WrongClockError,
    WrongNameError,
    with_remedy,
)
from vbnfs.s3 import trust
from vbnfs.s3.certificates import Dates, with_dates
from vbnfs.s3.routes import route_to
from vbnfs.s3.server_dates import ServerDates
from vbnfs.s3.trust import VARIABLES, Trust, load, places_of

BOTH_CLIENTS: Final = ("get_range", "head")
DAY: Final = 86_400.0

RECEIVING: Final = pytest.mark.usefixtures("receiving")


async def test_an_unknown_certificate_is_refused(store: MemoryStore, certificate: Certificate) -> None:
    """A server whose certificate is not trusted gets no request, and the message names cause, trust and remedy."""
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url) as client:
            for kind in BOTH_CLIENTS:
                with pytest.raises(
                    UntrustedServerError, match=r"its certificate is self-signed.*; trusted: "
                ) as caught:
                    await ask(client, kind)
                assert "--ca-bundle" in with_remedy(caught.value)
    assert server.count() == 0


@RECEIVING
async def test_a_ca_bundle_is_trusted(store: MemoryStore, certificate: Certificate) -> None:
    """With the authority named, an HTTPS server of one's own works."""
    received = Received()
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url, ca_bundle=certificate.path) as client:
            await fetch(client, received)
    assert received.data == WANTED


@pytest.mark.parametrize("variable", VARIABLES)
async def test_each_variable_is_honoured(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    """Where no bundle is named, the variables of OpenSSL, curl, Requests and AWS name files and folders.

    All that they name is trusted together, whichever of them has it.
    """
    (tmp_path / "ours.pem").write_bytes(certificate.path.read_bytes())
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other", "DNS:elsewhere.example")
    for name in VARIABLES:
        monkeypatch.setenv(name, str(other.path.parent if name == "SSL_CERT_DIR" else other.path))
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        for is_file in (variable != "SSL_CERT_DIR", False):
            async with open_client(server.endpoint_url) as client:
                with pytest.raises(UntrustedServerError, match=rf"trusted: .*\({variable}\)"):
                    await client.head(VERSION)
            with monkeypatch.context() as patch:
                patch.setenv(variable, str(tmp_path / "ours.pem") if is_file else f"{tmp_path}")
                async with open_client(server.endpoint_url) as client:
                    assert await ask(client, "get_range") == WANTED
                    assert (await client.head(VERSION)).size_bytes == SIZE
        async with open_client(server.endpoint_url, ca_bundle=other.path) as client:
            with pytest.raises(UntrustedServerError, match=r"trusted: [^,]*\(--ca-bundle\)$"):
                await client.head(VERSION)


async def test_the_systems_certificates_are_the_usual_ones(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any of these, both clients trust the file that the distribution has, and say so."""
    monkeypatch.setattr(trust, "_SYSTEM_FILES", ("/none/of/this/system.pem", str(certificate.path)))
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url) as client:
            assert await ask(client, "get_range") == WANTED
            assert (await client.head(VERSION)).size_bytes == SIZE
        [place] = route_to(server.endpoint_url, ca_bundle=None, environ={}).places
        assert str(place) == f"{certificate.path} (the system's)"


def test_a_system_without_certificates() -> None:
    """Where the system has none, those of the package certifi are taken, and named."""
    [place] = places_of(None, {}, exists=lambda path: False)
    assert "certifi" in str(place)
    assert load([place]).pem.count(b"BEGIN CERTIFICATE") > 50


@RECEIVING
async def test_a_certificate_for_another_name_is_refused(
    store: MemoryStore, certificate: Certificate, tmp_path: Path
) -> None:
    """A trusted authority does not make a certificate good for every host."""
    other = make_certificate(tmp_path, "DNS:elsewhere.example")
    with FakeS3Server(store, tls=other.server_context()) as server:
        async with open_client(server.endpoint_url, ca_bundle=other.path) as client:
            for kind in BOTH_CLIENTS:
                with pytest.raises(UntrustedServerError, match=r"certificate is for another host"):
                    await ask(client, kind)


CAUSES: Final = {
    "expired": (ExpiredError, "has expired"),
    "not yet valid": (ExpiredError, "is not valid yet"),
    "another host": (WrongNameError, "is for another host"),
    "self-signed": (UntrustedServerError, "is self-signed"),
    "unknown authority": (UntrustedServerError, "from an authority that is not"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Certificate, Path]]:
    """For each cause a certificate, and a bundle with which this is the cause."""

    def make(*names: str, **more: Any) -> Certificate:
        return make_certificate(tmp_path_factory.mktemp("faulty"), *names, **more)

    ours, authority = "IP:127.0.0.1", make("DNS:authority.example")
    old, new, other = make(ours, valid_days=(-10, -5)), make(ours, valid_days=(5, 10)), make("DNS:elsewhere.example")
    return {
        "expired": (old, old.path),
        "not yet valid": (new, new.path),
        "another host": (other, other.path),
        "self-signed": (make(ours), authority.path),
        "unknown authority": (make(ours, authority=authority), other.path),
    }


async def test_each_cause_has_its_message(store: MemoryStore, faulty: dict[str, tuple[Certificate, Path]]) -> None:
    """Why a certificate is refused is said in the same words by both clients, with a remedy for it."""
    for cause, (kind_of_error, words) in CAUSES.items():
        certificate, bundle = faulty[cause]
        with FakeS3Server(store, tls=certificate.server_context()) as server:
            async with open_client(server.endpoint_url, ca_bundle=bundle) as client:
                for kind in BOTH_CLIENTS:
                    with pytest.raises(kind_of_error, match=f"its certificate.*{words}") as caught:
                        await ask(client, kind)
                    assert type(caught.value) is kind_of_error
                    assert str(caught.value).startswith(server.endpoint_url)


@pytest.mark.parametrize(("cause", "days"), [("expired", -7), ("not yet valid", 7)])
async def test_a_wrong_clock_is_named(
    store: MemoryStore, faulty: dict[str, tuple[Certificate, Path]], cause: str, days: int
) -> None:
    """Where a certificate is refused for its dates, the server is asked for the time, and for nothing else.

    If the certificate is valid by that, this machine's clock is named; else the dates are.
    """
    certificate, bundle = faulty[cause]
    by_server = datetime.now(UTC) + timedelta(days=days)
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        for when, kind_of_error, words in (
            (by_server, WrongClockError, rf"clock says .*, the server's {by_server:%Y-%m-%d %H:%M} UTC"),
            (datetime.now(UTC), ExpiredError, r"valid from .* to .* clock says"),
        ):
            server.behaviours[:] = [header(Date=format_datetime(when, usegmt=True))]
            async with open_client(server.endpoint_url, ca_bundle=bundle) as client:
                for kind in BOTH_CLIENTS:
                    with pytest.raises(ExpiredError, match=words) as caught:
                        await ask(client, kind)
                    assert type(caught.value) is kind_of_error
                    assert ("timedatectl" in with_remedy(caught.value)) == (kind_of_error is WrongClockError)
    assert [(request.method, request.key) for request in server.requests] == [("HEAD", "")] * 2


async def test_the_time_is_asked_for_once(autojump_clock: trio.testing.MockClock) -> None:
    """Many requests that are refused at the same time, and for minutes after, ask a server for its time once."""
    asked, now = 0, Dates(0, DAY, 100.0)

    async def ask_server() -> Dates | None:
        nonlocal asked
        asked += 1
        await trio.sleep(1)
        return now

    dates, found = ServerDates(ask_server), list[Dates | None]()

    async def get() -> None:
        found.append(await dates.get())

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(get)
    assert (asked, found) == (1, [now] * 8)
    await trio.sleep(60)
    assert (await dates.get(), asked) == (Dates(0, DAY, 160.0), 1)
    await trio.sleep(300)
    assert (await dates.get(), asked) == (now, 2)


@pytest.mark.parametrize(
    ("now", "dates", "is_wrong"),
    [
        (10 * DAY, None, True),  # before it was installed
        (99.5 * DAY, None, False),
        (200 * DAY, None, False),
        (200 * DAY, Dates(150 * DAY, 190 * DAY, 200 * DAY), False),  # it has expired
        (200 * DAY, Dates(150 * DAY, 190 * DAY, 189 * DAY), True),  # it had not, by the server's time
        (200 * DAY, Dates(150 * DAY, 250 * DAY, 260 * DAY), True),  # one above it had
        (200 * DAY, Dates(200 * DAY + 60, 250 * DAY, 200 * DAY + 120), True),  # two minutes matter
        (200 * DAY, Dates(150 * DAY, 250 * DAY, 200 * DAY + 120), False),  # these do not
    ],
)
def test_when_the_clock_is_to_blame(now: float, dates: Dates | None, is_wrong: bool) -> None:
    """By the server's time the certificate is valid; or a day lies between; or vbnfs was installed later."""
    error = with_dates(ExpiredError("it has expired"), dates, now=now, installed=100 * DAY)
    assert isinstance(error, WrongClockError) == is_wrong
    assert str(error).startswith("it has expired: ")


async def test_a_network_that_inspects_tls(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A proxy that ends TLS with an authority of its own: refused with its name, and good where that is trusted."""
    for name in ("authority", "issued"):
        (tmp_path / name).mkdir()
    authority = make_certificate(tmp_path / "authority", "DNS:proxy.example")
    names = ("DNS:data-bucket.s3.us-west-2.amazonaws.com",)
    issued = make_certificate(tmp_path / "issued", *names, authority=authority)
    with FakeS3Server(store, tunnel_tls=issued.server_context()) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.endpoint_url)
        async with open_client(None, ca_bundle=certificate.path) as client:
            for kind in BOTH_CLIENTS:
                with pytest.raises(UntrustedServerError, match=r"data-bucket\.s3\..*authority.*trusted: "):
                    await ask(client, kind)
        async with open_client(None, ca_bundle=authority.path) as client:
            assert await ask(client, "get_range") == WANTED
            assert (await client.head(VERSION)).size_bytes == SIZE


async def test_the_certificate_of_a_proxy(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An https proxy has to show a certificate that is trusted; the message is of the proxy."""
    other = make_certificate(tmp_path, "DNS:elsewhere.example")
    with FakeS3Server(store) as server, HttpProxy(tls=certificate.server_context()) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        async with open_client(server.endpoint_url, ca_bundle=other.path) as client:
            for kind in BOTH_CLIENTS:
                with pytest.raises(UntrustedServerError, match=rf"^the proxy {proxy.url} \(ALL_PROXY\): its certif"):
                    await ask(client, kind)
    assert server.count() == 0


async def test_an_expired_certificate_of_a_proxy(
    store: MemoryStore, faulty: dict[str, tuple[Certificate, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy whose certificate has expired is asked for nothing, not for the time either: it gets no password."""
    certificate, bundle = faulty["expired"]
    with FakeS3Server(store) as server, HttpProxy(tls=certificate.server_context()) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("://", "://me:secret@"))
        for url in (server.endpoint_url, "https://s3.example"):
            async with open_client(url, ca_bundle=bundle) as client:
                for kind in BOTH_CLIENTS:
                    with pytest.raises(
                        ExpiredError, match=rf"^the proxy {proxy.url} .*expired: this machine's clock"
                    ):
                        await ask(client, kind)
    assert proxy.asked == []


async def test_what_is_trusted_need_not_be_an_authority(
    store: MemoryStore, certificate: Certificate, tmp_path: Path
) -> None:
    """Both clients trust each certificate of a bundle: a server's own, or that of an authority below another one."""
    for name in ("above", "below", "issued"):
        (tmp_path / name).mkdir()
    above = make_certificate(tmp_path / "above", "DNS:above.example")
    below = make_certificate(tmp_path / "below", "DNS:below.example", authority=above, is_authority=True)
    issued = make_certificate(tmp_path / "issued", "IP:127.0.0.1", authority=below)
    for bundle in (below, issued):
        with FakeS3Server(store, tls=issued.server_context()) as server:
            async with open_client(server.endpoint_url, ca_bundle=bundle.path) as client:
                assert await ask(client, "get_range") == WANTED
                assert (await client.head(VERSION)).size_bytes == SIZE
    assert not Trust().context().verify_flags & ssl.VERIFY_X509_STRICT


UNUSABLE: Final = {
    "missing": None,
    "empty": b"",
    "other": b"no certificate",
    "key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "damaged": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("variable", ["--ca-bundle", *VARIABLES])
@pytest.mark.parametrize("kind", [*UNUSABLE, "folder", "large", "folder with a large file"])
def test_unusable_certificates_are_the_users_mistake(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, kind: str
) -> None:
    """A file or folder that is missing, empty or something else is an error at once: it names the path and variable.

    So is a file that is too large: none is read in part. A variable counts only where certificates are checked.
    """
    bundle = tmp_path / "bundle.pem"
    if kind.startswith("folder"):
        bundle.mkdir()
    if "large" in kind:
        large = bundle / "large.pem" if bundle.is_dir() else bundle
        large.write_bytes(certificate.path.read_bytes())
        os.truncate(large, (16 << 20) + 1)
    elif (data := UNUSABLE.get(kind)) is not None:
        bundle.write_bytes(data)
    is_option = variable == "--ca-bundle"
    if not is_option:
        monkeypatch.setenv(variable, str(bundle))
        open_client("http://127.0.0.1:8333")
    if (variable, kind) == ("SSL_CERT_DIR", "folder"):  # OpenSSL reads it as it needs it
        open_client(None)
        return
    with pytest.raises(UsageError) as caught:
        open_client(None, ca_bundle=bundle if is_option else None)
    assert str(caught.value).startswith(f"{bundle} ({variable}): no usable certificates: ")
    assert ("more than 16 MiB" in str(caught.value)) == ("large" in kind)


@RECEIVING
async def test_ssl_cert_dir_is_honoured(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder of certificates under their names' hashes (openssl-rehash(1)) is trusted, for ranges and all else."""
    received = Received()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url) as client:
            for kind in ("get_range", "head"):
                with pytest.raises(UntrustedServerError):
                    await ask(client, kind)
        command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(certificate.path)]
        name = (await trio.run_process(command, capture_stdout=True)).stdout.decode().strip()
        (tmp_path / f"{name}.0").write_bytes(certificate.path.read_bytes())
        (tmp_path / "damaged.pem").write_bytes(b"-----BEGIN CERTIFICATE-----")
        for bundle in (None, tmp_path):
            monkeypatch.setenv("SSL_CERT_DIR", f"/none/of/these:{tmp_path}" if bundle is None else "")
            async with open_client(server.endpoint_url, ca_bundle=bundle) as client:
                await fetch(client, received)
                assert (await client.head(VERSION)).size_bytes == SIZE
    assert received.data == WANTED * 2
