"""Which servers are trusted."""

from pathlib import Path

import pytest
import trio

from tests.fakes.certificates import Certificate, make_certificate
from tests.fakes.s3_server import (
    FakeS3Server,
)
from tests.fakes.store import MemoryStore
from tests.s3.asking import SIZE, VERSION, WANTED, Received, ask, fetch, open_client
from vbnfs.errors import (
    UntrustedServerError,
    UsageError,
    with_remedy,
)

pytestmark = pytest.mark.usefixtures("receiving")


async def test_an_unknown_certificate_is_refused(store: MemoryStore, certificate: Certificate) -> None:
    """A server whose certificate is not trusted gets no request, and the message names the remedy."""
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url) as client:
            with pytest.raises(UntrustedServerError, match=r"(?i)certificate") as caught:
                await client.head(VERSION)
    assert "--ca-bundle" in with_remedy(caught.value)
    assert server.count() == 0


async def test_a_ca_bundle_is_trusted(store: MemoryStore, certificate: Certificate) -> None:
    """With the authority named, an HTTPS server of one's own works."""
    received = Received()
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url, ca_bundle=certificate.path) as client:
            await fetch(client, received)
    assert received.data == WANTED


async def test_ssl_cert_file_is_honoured(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual variable works where no bundle is named."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url) as client:
            assert (await client.head(VERSION)).size_bytes == SIZE


async def test_a_certificate_for_another_name_is_refused(
    store: MemoryStore, certificate: Certificate, tmp_path: Path
) -> None:
    """A trusted authority does not make a certificate good for every host."""
    other = make_certificate(tmp_path, "DNS:elsewhere.example")
    with FakeS3Server(store, tls=other.server_context()) as server:
        async with open_client(server.endpoint_url, ca_bundle=other.path) as client:
            with pytest.raises(UntrustedServerError, match=r"(?i)certificate"):
                await client.head(VERSION)


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_an_unusable_ca_bundle_is_the_users_mistake(tmp_path: Path, text: str | None) -> None:
    """A bundle that is not there, empty or something else is an error at once, which names it."""
    bundle = tmp_path / "bundle.pem"
    if text is not None:
        bundle.write_text(text)
    with pytest.raises(UsageError, match=r"bundle\.pem"):
        open_client(None, ca_bundle=bundle)


def test_an_unusable_ssl_cert_file_is_the_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the variable."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):
        open_client(None)


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
        async with open_client(server.endpoint_url) as client:
            await fetch(client, received)
            assert (await client.head(VERSION)).size_bytes == SIZE
    assert received.data == WANTED
