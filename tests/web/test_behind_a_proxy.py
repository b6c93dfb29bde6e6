"""The page below a path: of nginx, which runs as another user, as a hub's proxy does; of a user's Jupyter server."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import pytest

from tests.fakes.s3_server import FakeS3Server
from tests.logged_program import logged_program
from tests.ports import free_port
from tests.served_page import page
from tests.waiting import until

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ROOT / ".venv-jupyterhub" / "bin"
BASE: Final = "/user/me/"

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

JUPYTER: Final = """
import sys

sys.path.append({repository!r})
from vbnfs.web.launcher import tile

# What the entry point gives, but for the Python that has the page's libraries.
c.ServerProxy.servers = {{"vbnfs": {{**(made := tile()), "command": [{python!r}, *made["command"][1:]]}}}}
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


class Browser:
    """What keeps cookies, and asks no proxy of its own."""

    def __init__(self) -> None:
        self.jar = CookieJar()
        handlers = urllib.request.HTTPCookieProcessor(self.jar), urllib.request.ProxyHandler({})
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, url: str, data: bytes | None = None, **fields: str) -> tuple[str, str]:
        """Where an address has led, and what is there."""
        request = urllib.request.Request(url, data, {name.replace("_", "-"): text for name, text in fields.items()})
        with self._opener.open(request, timeout=60) as answer:
            return answer.url, answer.read().decode()

    def cookies(self) -> list[tuple[str, str]]:
        """The paths and the hosts of the page's cookies."""
        return [(cookie.path, cookie.domain) for cookie in self.jar if cookie.name.startswith("vbnfs-")]


def use(browser: Browser, top: str, query: str) -> None:
    """Come in by the token of a query; follow all that a page has; ask for a plan, as a page does."""
    url, text = browser.get(f"{top}sessions?words=novel&{query}")
    assert url == f"{top}sessions?words=novel"
    assert browser.cookies() == [(urlsplit(top).path.rstrip("/"), "127.0.0.1")]
    until(lambda: 'id="pick"' in browser.get(url)[1])  # until then it says how far reading the tables is
    _, text = browser.get(url)
    links = re.findall(r'(?:href|src|hx-get)="([^"#]+)"', text)
    assert len(links) > 10
    for link in (one for one in links if not one.startswith("areas")):  # the release does not say them
        found, _ = browser.get(urljoin(url, link.replace("&amp;", "&")))
        assert found.startswith(top)
    [proof] = re.findall(r'"X-Vbnfs-Proof": "([0-9a-f]+)"', text)
    [plan] = re.findall(r'hx-post="([^"]+)"', text)
    data = b"session=1044385384&lfp=no"
    _, text = browser.get(urljoin(url, plan), data, X_Vbnfs_Proof=proof)
    assert "1 file" in text
    with pytest.raises(urllib.error.HTTPError, match="403"):
        browser.get(urljoin(url, plan), data)


@pytest.mark.root
def test_below_a_path_of_a_proxy(server: FakeS3Server, tmp_path: Path) -> None:
    """With --allow and --any-user all of it works there, and its cookie is of that path; without, it is refused."""
    with page(server, "--port", "0", "--allow", HUB) as (address, _), proxy(tmp_path / "a", port_of(address)) as port:
        with pytest.raises(urllib.error.HTTPError) as refused:
            Browser().get(f"http://127.0.0.1:{port}{PREFIX}")
        assert "This page is of another user" in refused.value.read().decode()
    with (
        page(server, "--port", "0", "--allow", HUB, "--any-user") as (address, _),
        proxy(tmp_path / "b", port_of(address)) as port,
    ):
        use(Browser(), f"http://127.0.0.1:{port}{PREFIX}", address.partition("?")[2])


@contextmanager
def jupyter(folder: Path, endpoint_url: str) -> Iterator[tuple[Browser, str]]:
    """A browser in a server of Jupyter's that has jupyter-server-proxy, and its address."""
    folder.mkdir()
    port, token = free_port(), secrets.token_hex()
    top = f"http://127.0.0.1:{port}{BASE}"
    (folder / "config.py").write_text(JUPYTER.format(repository=str(ROOT), python=sys.executable), encoding="utf-8")
    options = [f"--port={port}", "--no-browser", "--allow-root", f"--IdentityProvider.token={token}"]
    options += [f"--ServerApp.base_url={BASE}", f"--ServerApp.root_dir={folder}", f"--config={folder}/config.py"]
    places = {f"JUPYTER_{name}": str(folder) for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
    env = {**os.environ, **places, "VBNFS_ENDPOINT_URL": endpoint_url}
    browser = Browser()

    def is_there() -> bool:
        try:
            return bool(browser.get(f"{top}login?token={token}"))  # as the address that Jupyter prints
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 404  # it has no first page of its own
        except OSError:
            return False

    with logged_program([PROGRAMS / "jupyter-server", *options], folder, env=env, is_there=is_there):
        yield browser, top


def test_below_a_server_of_jupyters(server: FakeS3Server, tmp_path: Path) -> None:
    """A tile of its launcher starts the page, and lets in; one that runs already is had at its port."""
    with jupyter(tmp_path / "jupyter", server.endpoint_url) as (browser, top):
        _, text = browser.get(f"{top}server-proxy/servers-info")
        [tile] = json.loads(text)["server_processes"]
        where, _, query = tile["launcher_entry"]["path_info"].partition("?")
        assert (tile["name"], tile["launcher_entry"]["title"]) == ("vbnfs", "Dataset (vbnfs)")
        use(browser, f"{top}{where}", query)
        log = (tmp_path / "jupyter" / "log").read_text()
        assert "the token in VBNFS_WEB_TOKEN lets in" in log
        with page(server, "--port", "0", "--allow", "127.0.0.1") as (address, _):
            browser.jar.clear(domain="127.0.0.1", path=f"{BASE}vbnfs")
            use(browser, f"{top}proxy/{port_of(address)}/", address.partition("?")[2])


def test_the_tile() -> None:
    """jupyter-server-proxy finds it by the package's entry point; its token is on no command line."""
    [found] = entry_points(group="jupyter_serverproxy_servers", name="vbnfs")
    options = found.load()()
    [token] = options["environment"].values()
    assert len(token) == 64
    assert options["launcher_entry"]["path_info"] == f"vbnfs/?token={token}"
    assert options["launcher_entry"]["enabled"]
    assert Path(options["launcher_entry"]["icon_path"]).is_file()
    assert token not in " ".join(options["command"])
    assert found.load()() != options  # of another server's
