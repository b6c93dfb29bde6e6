"""The real commands by way of proxies, with certificates of all kinds, and at AWS's hosts with IPv6."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.certificates import Certificate, make_certificate
from tests.fakes.dataset import FakeDataset
from tests.fakes.http_proxy import HttpProxy
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts, run_vbnfs
from tests.mount_namespaces import NO_MOUNTS

NAME: Final = "notes/101/a.txt"
DATA: Final = b"the one" * 1000


@pytest.fixture
def dataset() -> FakeDataset:
    made = FakeDataset()
    made.publish("0.1.0", {NAME: DATA})
    return made


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    (tmp_path / "certificate").mkdir()
    names = ("IP:127.0.0.1", "DNS:s3.example", "DNS:*.s3.us-west-2.amazonaws.com")
    return make_certificate(tmp_path / "certificate", *names, "DNS:s3.dualstack.us-west-2.amazonaws.com")


@pytest.fixture
def server(dataset: FakeDataset, certificate: Certificate) -> Iterator[FakeS3Server]:
    with FakeS3Server(dataset.store, tls=certificate.server_context()) as running:
        yield running


def test_a_mount_by_way_of_a_proxy(
    mounts: Mounts, server: FakeS3Server, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`status` says by which proxy and with which certificates; names and passwords show nowhere.

    Where the proxy is not there the next time, the warning says so, and what is cached can be read.
    """
    leads_to = {("s3.example", 443): ("127.0.0.1", server.port)}
    with HttpProxy(login=(b"me", b"se@cret"), leads_to=leads_to) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"me:se%40cret@{proxy.address}")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.path))
        mount = mounts("https://s3.example")
        assert (mount.path / NAME).read_bytes() == DATA
        assert mount.status()["proxy"] == f"{proxy.url} (HTTPS_PROXY)"
        assert mount.status()["certificates"] == f"{certificate.path} (AWS_CA_BUNDLE)"
        shown = run_vbnfs("status", mount.path).stdout
        assert f"proxy       {proxy.url} (HTTPS_PROXY)" in shown
        assert f"trusted     {certificate.path} (AWS_CA_BUNDLE)" in shown
        assert proxy.asked
        mount.umount()
        proxy.status = 403
        kept = run_vbnfs("versions", *mount.options)
        assert (kept.returncode, "0.1.0" in kept.stdout, "kept from before" in kept.stderr) == (0, True, True)
        refused = run_vbnfs("versions", *mount.options, "--cache-dir", tmp_path / "other")
        assert refused.returncode == 1
        assert f"the proxy {proxy.url} (HTTPS_PROXY) does not let us reach https://s3.example/" in refused.stderr
    mount.mount()
    gone = f"the proxy {proxy.url} (HTTPS_PROXY) cannot be reached: Connection refused"
    assert gone in mount.warnings
    assert "only cached data can be read" in mount.warnings
    assert (mount.path / NAME).read_bytes() == DATA
    log = (tmp_path / "vbnfs.log").read_text()
    assert f"the proxy {proxy.url} (HTTPS_PROXY) cannot be reached: Connection refused" in log
    assert not any("cret" in text for text in (log, shown, kept.stderr, refused.stderr, mount.warnings))


@pytest.fixture
def faulty(certificate: Certificate, tmp_path: Path) -> dict[str, Certificate | None]:
    """What a server may show in its place; all but the unknown one are in a bundle, `bundle.pem`."""
    made = {
        name: make_certificate(_folder(tmp_path, name), host, valid_days=days)
        for name, host, days in (
            ("expired", "DNS:s3.example", (-10, -5)),
            ("another host", "DNS:elsewhere.example", (0, 2)),
            ("unknown", "DNS:s3.example", (0, 2)),
        )
    }
    known = [certificate, *(one for name, one in made.items() if name != "unknown")]
    (tmp_path / "bundle.pem").write_bytes(b"\n".join(one.path.read_bytes() for one in known))
    return {**made, "none": None}


def _folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_stored_list_hides_no_failure(
    mounts: Mounts,
    server: FakeS3Server,
    certificate: Certificate,
    faulty: dict[str, Certificate | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """With a list that is fresh enough not to be asked for, a mount says at once why the server cannot be used.

    So do `status`, while it is so, and what is cached can be read. When all is well again, nothing is said.
    """
    with HttpProxy(leads_to={("s3.example", 443): ("127.0.0.1", server.port)}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
        mount = mounts("https://s3.example")
        assert (mount.path / NAME).read_bytes() == DATA
        assert mount.status()["server_problem"] is None

        def check(words: str) -> None:
            mount.umount()
            mount.mount()
            assert words in mount.warnings
            assert "only cached data can be read" in mount.warnings
            assert words in str(mount.status()["server_problem"])
            assert "  problem     " in run_vbnfs("status", mount.path).stdout
            assert (mount.path / NAME).read_bytes() == DATA

        for cause, words in (
            ("expired", "has expired"),
            ("another host", "its certificate is for another host"),
            ("unknown", "its certificate is self-signed"),
            ("none", "speaks no TLS at this port"),
        ):
            found = faulty[cause]
            server.tls = None if found is None else found.server_context()
            check(words)
        server.tls, proxy.status = certificate.server_context(), 403
        check(f"the proxy {proxy.url} (HTTPS_PROXY) does not let us reach https://s3.example/")
        proxy.status = None
        monkeypatch.setenv("NO_PROXY", "s3.example")
        check("s3.example:443 cannot be reached: ")  # no name server knows it
        monkeypatch.delenv("NO_PROXY")
        mount.umount()
        mount.mount()
        assert (mount.warnings, mount.status()["server_problem"]) == ("", None)


def test_a_proxy_that_passes_nothing_on(
    mounts: Mounts, dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is with a proxy that passes requests for http servers on, and refuses them by now."""
    with FakeS3Server(dataset.store) as plain, HttpProxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        mount = mounts(plain.endpoint_url)
        assert (mount.path / NAME).read_bytes() == DATA
        mount.umount()
        proxy.status = 403
        mount.mount()
        words = f"the proxy {proxy.url} (http_proxy) does not let us reach {plain.endpoint_url}"
        assert words in mount.warnings
        assert words in str(mount.status()["server_problem"])
        assert (mount.path / NAME).read_bytes() == DATA


WRONG: Final = "nonsense://proxy.example"


@pytest.mark.parametrize(
    ("variables", "status", "words"),
    [
        ({"HTTPS_PROXY": WRONG, "ALL_PROXY": ""}, 2, f"HTTPS_PROXY: '{WRONG}' will not do"),
        ({"ALL_PROXY": WRONG}, 2, f"ALL_PROXY: '{WRONG}' will not do"),
        ({"ALL_PROXY": WRONG, "HTTPS_PROXY": "{proxy}"}, 0, ""),
        ({"HTTPS_PROXY": "{proxy}", "NO_PROXY": "[::1],fe80::/10,::1", "HTTP_PROXY": WRONG}, 0, ""),
        ({"https_proxy": "{bare}"}, 0, ""),
        ({"https_proxy": "127.0.0.1:1"}, 1, "the proxy http://127.0.0.1:1 (https_proxy) cannot be reached: Conn"),
        (
            {"https_proxy": "{proxy}", "CURL_CA_BUNDLE": "/none/such.pem"},
            2,
            "/none/such.pem (CURL_CA_BUNDLE): no usa",
        ),
    ],
)
def test_variables_work_or_are_named(
    server: FakeS3Server, certificate: Certificate, variables: dict[str, str], status: int, words: str
) -> None:
    """What is needed and will not do is refused with status 2, by its name alone. What is not needed is not read."""
    leads_to = {("s3.example", 443): ("127.0.0.1", server.port)}
    with HttpProxy(leads_to=leads_to) as proxy:
        env = {name: text.format(proxy=proxy.url, bare=proxy.address) for name, text in variables.items()}
        env = {"SSL_CERT_FILE": str(certificate.path), **env}
        done = run_vbnfs("versions", "--endpoint-url", "https://s3.example", env=env)
    assert (done.returncode, "0.1.0" in done.stdout) == (status, status == 0), done.stderr
    assert words in done.stderr
    named = [name for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") if name in done.stderr]
    assert len(named) <= 1


def test_another_scheme_than_the_servers(server: FakeS3Server, dataset: FakeDataset) -> None:
    """https:// for plain HTTP, of a server or a proxy, and http:// for a port with TLS: the message says so."""
    with FakeS3Server(dataset.store) as plain:
        encrypted = plain.endpoint_url.replace("http", "https")
        done = run_vbnfs("versions", "--endpoint-url", encrypted)
        assert (done.returncode, "write http:// in --endpoint-url" in done.stderr) == (1, True), done.stderr
        assert f"{encrypted}/{dataset.store.bucket} speaks no TLS at this port" in done.stderr
        env = {"HTTPS_PROXY": encrypted}
        done = run_vbnfs("versions", "--endpoint-url", server.endpoint_url, env=env)
        assert (done.returncode, "write http:// in HTTPS_PROXY" in done.stderr) == (1, True), done.stderr
    done = run_vbnfs("versions", "--endpoint-url", server.endpoint_url.replace("https", "http"))
    assert (done.returncode, "write https:// in --endpoint-url" in done.stderr) == (1, True), done.stderr


def test_offline_needs_neither(server: FakeS3Server, certificate: Certificate) -> None:
    """Where nothing is asked, variables that will not do do not matter; nor where TLS is not spoken."""
    options = ("--endpoint-url", server.endpoint_url)
    good = run_vbnfs("versions", *options, "--ca-bundle", certificate.path)
    assert good.returncode == 0, good.stderr
    env = {"ALL_PROXY": WRONG, "CURL_CA_BUNDLE": "/none/such.pem"}
    done = run_vbnfs("versions", *options, "--offline", env=env)
    assert (done.returncode, done.stdout) == (0, good.stdout), done.stderr


def test_aws_by_ipv6_has_the_same_cache(dataset: FakeDataset, certificate: Certificate) -> None:
    """What was fetched from AWS is not fetched again by its hosts with IPv6, nor are manifests."""
    with FakeS3Server(dataset.store, tunnel_tls=certificate.server_context()) as server:
        env = {"HTTPS_PROXY": server.endpoint_url, "SSL_CERT_FILE": str(certificate.path)}
        first = run_vbnfs("verify", "--fetch", NAME, env=env)
        assert first.returncode == 0, first.stderr
        assert server.count("get_range") > 0
        server.forget_requests()
        endpoint = ("--endpoint-url", "https://s3.dualstack.us-west-2.amazonaws.com")
        second = run_vbnfs("verify", "--fetch", NAME, *endpoint, env=env)
        assert (second.returncode, second.stdout) == (0, first.stdout), second.stderr
        hosts = {request.headers["host"] for request in server.requests}
        assert hosts == {"s3.dualstack.us-west-2.amazonaws.com"}
        assert server.count("get_range") == server.count("get_object") == 0


@pytest.mark.root
def test_the_systems_own_store(server: FakeS3Server, certificate: Certificate, tmp_path: Path) -> None:
    """An authority that was added to the system's certificates is trusted without any setting."""
    store = Path("/etc/ssl/certs/ca-certificates.crt")
    ours = tmp_path / "ca-certificates.crt"
    ours.write_bytes(store.read_bytes() + certificate.path.read_bytes())
    commands = f'{NO_MOUNTS}; mount --bind "$1" {store} && shift && exec "$@"'
    vbnfs = [sys.executable, "-m", "vbnfs", "verify", "--fetch", NAME, "--endpoint-url", server.endpoint_url]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", commands, "sh", ours, *vbnfs],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "good" in done.stdout
    refused = run_vbnfs("versions", "--endpoint-url", server.endpoint_url, "--cache-dir", tmp_path / "other")
    assert refused.returncode == 1
    assert "its certificate is self-signed" in refused.stderr
    assert f"trusted: {store} (the system's)" in refused.stderr
