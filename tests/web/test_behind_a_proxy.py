"""The page below a path of nginx, which runs as another user, as a hub's proxy does."""

import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import pytest

from tests.fakes.s3_server import FakeS3Server
from tests.ports import free_port
from tests.served_page import page
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.root]

PREFIX: Final = "/user/me/vbn/"
HUB: Final = "hub.example"
CONFIGURATION: Final = """
user www-data;
daemon off;
worker_processes 1;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location {prefix} {{
            proxy_pass http://127.0.0.1:{behind}/;
            proxy_http_version 1.1;
            proxy_set_header Host {hub};
        }}
    }}
}}
"""


@contextmanager
def proxy(folder: Path, behind: int) -> Iterator[int]:
    """nginx before a port; its own port."""
    port, program = free_port(), shutil.which("nginx")
    assert program is not None
    folder.mkdir()
    written = CONFIGURATION.format(folder=folder, port=port, prefix=PREFIX, behind=behind, hub=HUB)
    (folder / "nginx.conf").write_text(written, encoding="utf-8")
    with subprocess.Popen(
        [program, "-c", folder / "nginx.conf", "-e", "stderr"], stderr=subprocess.DEVNULL
    ) as process:
        try:
            until((folder / "pid").exists)
            yield port
        finally:
            process.terminate()


def port_of(address: str) -> int:
    return int(address.split(":")[2].partition("/")[0])


def test_below_a_path_of_a_proxy(server: FakeS3Server, tmp_path: Path) -> None:
    """With --allow and --any-user all of it works there, and its cookie is of that path; without, it is refused."""
    with page(server, "--port", "0", "--allow", HUB) as (address, _), proxy(tmp_path / "a", port_of(address)) as port:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{PREFIX}", timeout=60)
        assert "This page is of another user" in refused.value.read().decode()

    jar = CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar), urllib.request.ProxyHandler({}))
    with (
        page(server, "--port", "0", "--allow", HUB, "--any-user") as (address, _),
        proxy(tmp_path / "b", port_of(address)) as port,
    ):
        top = f"http://127.0.0.1:{port}{PREFIX}"
        with browser.open(f"{top}sessions?words=novel&{address.partition('?')[2]}", timeout=60) as answer:
            assert answer.url == f"{top}sessions?words=novel"
            text = answer.read().decode()
        assert [(cookie.path, cookie.domain) for cookie in jar] == [(PREFIX.rstrip("/"), "127.0.0.1")]
        links = re.findall(r'(?:href|src|hx-get)="([^"#]+)"', text)
        assert len(links) > 10
        for link in links:
            with browser.open(urljoin(answer.url, link.replace("&amp;", "&")), timeout=60) as found:
                assert found.url.startswith(top)
        [proof] = re.findall(r'"X-Vbnfs-Proof": "([0-9a-f]+)"', text)
        [plan] = re.findall(r'hx-post="([^"]+)"', text)
        asked = urllib.request.Request(urljoin(answer.url, plan), data=b"session=1044385384&lfp=no")
        asked.add_header("X-Vbnfs-Proof", proof)
        with browser.open(asked, timeout=60) as found:
            assert "1 file" in found.read().decode()
