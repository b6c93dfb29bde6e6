"""A JupyterHub whose users have the dataset, by the files of deploy/jupyterhub (docs/jupyterhub.md)."""

import json
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.logged_program import logged_program
from tests.ports import free_port
from tests.scenarios.hosts.programs import SCRIPT
from tests.scenarios.system.namespace import HOME, MEMBER, REPOSITORY, USER, Namespace
from tests.waiting import until

DEPLOYED = REPOSITORY / "deploy" / "jupyterhub"
PROGRAMS = REPOSITORY / ".venv-jupyterhub" / "bin"
VBNFS = "/mnt/programs/vbnfs"  # in the namespace
UNITS = "project_metadata/units.csv"

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset."""
    with serve({"0.4.0": {UNITS: b"unit_id\n1\n"}}) as server:
        yield server


class Hub:
    """A hub that runs in a namespace, and what its users' servers say."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self._folder, self._url, self._token = folder, url, token

    def ask(self, url: str, method: str = "GET") -> tuple[int, Any]:
        """The status and the JSON of a reply; 0 if there is none."""
        request = urllib.request.Request(url, method=method, headers={"Authorization": f"token {self._token}"})
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                status, body = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        except OSError:  # it does not listen yet
            return 0, None
        return status, json.loads(body) if body.startswith((b"{", b"[")) else body

    def is_there(self) -> bool:
        """Whether it answers."""
        return self.ask(f"{self._url}/hub/api/")[0] == 200

    def start(self, *users: str) -> None:
        """Start users' servers, and wait for them."""
        urls = [f"{self._url}/hub/api/users/{user}" for user in users]
        for url in urls:
            assert self.ask(url, "POST")[0] == 201
        with ThreadPoolExecutor() as pool:  # a reply comes when a server is there, or after some seconds
            replies = list(pool.map(lambda url: self.ask(f"{url}/server", "POST")[0], urls))
        assert {*replies} <= {201, 202}
        for url in urls:
            until(lambda url=url: bool(self.ask(url)[1]["servers"].get("", {}).get("ready")), seconds=240)

    def stop(self, user: str) -> None:
        """Stop a user's server, and wait until it is gone."""
        url = f"{self._url}/hub/api/users/{user}"
        assert self.ask(f"{url}/server", "DELETE")[0] in {202, 204}
        until(lambda: not self.ask(url)[1]["servers"], seconds=60)

    def address(self, user: str) -> str:
        """Where a user's server listens."""
        routes = json.loads((self._folder / "routes").read_text())
        return str(routes[f"/user/{user}/"]["target"])


@contextmanager
def hub(namespace: Namespace, folder: Path, *options: str) -> Iterator[Hub]:
    """The hub, while entered. `options` are those of the mount for all."""
    folder.mkdir()
    url, token = f"http://127.0.0.1:{free_port()}", secrets.token_hex()
    places = {"DEPLOYED": DEPLOYED, "FOLDER": folder, "URL": url, "TOKEN": token, "OPTIONS": json.dumps(options)}
    places |= {"VBNFS": VBNFS}
    env = {**os.environ, **{f"TEST_{name}": str(value) for name, value in places.items()}}
    env = {name: value for name, value in env.items() if not name.startswith("VBNFS_")}
    command = ["nsenter", f"--mount={namespace.path}", "--", f"{PROGRAMS}/jupyterhub"]
    command += ["--config", f"{Path(__file__).parent}/hub_config.py"]
    made = Hub(folder, url, token)
    with logged_program(command, folder, env=env, is_there=made.is_there):
        yield made


def write(namespace: Namespace, path: str, text: str, *, user: str | None = None) -> None:
    """Write a file that a user may run, in the namespace."""
    script = 'mkdir -p "${0%/*}"; printf %s "$1" >"$0"; chmod 755 "$0"'
    namespace.output("sh", "-euc", script, path, text, user=user)


def test_a_hub(server: FakeS3Server, tmp_path: Path) -> None:
    """One user reads the mount for all, and one a mount of that user's own, which goes with the server."""
    with Namespace() as namespace:
        settings = tmp_path / "hub.toml"
        text = (DEPLOYED / "hub.toml").read_text().replace("/var/", f"{tmp_path}/")
        settings.write_text(f'{text}endpoint_url = "{server.endpoint_url}"\n')
        own = f'endpoint_url = "{server.endpoint_url}"\n'
        write(namespace, f"{HOME}/.config/vbnfs/config.toml", own, user=USER)
        write(namespace, VBNFS, SCRIPT)
        with hub(namespace, tmp_path / "hub", "--config", str(settings)) as running:
            running.start(MEMBER, USER)
            for user, folder in ((MEMBER, "vbn"), (USER, f"{USER}/vbn")):
                environment = namespace.output("cat", f"/mnt/{user}/environment")
                assert environment == f"VBN=/mnt/{folder}\n"
            assert running.ask(f"{running.address(MEMBER)}/vbn/{UNITS}") == (200, b"unit_id\n1\n")
            status, found = running.ask(f"{running.address(USER)}/user/{USER}/api/contents/{USER}/vbn/{UNITS}")
            assert (status, found["content"]) == (200, "unit_id\n1\n")
            assert {*namespace.mounts()} == {"/mnt/vbn", f"{HOME}/vbn"}
            owner = namespace.output("stat", "-c", "%U", f"{HOME}/vbn/README.txt", user=USER)
            assert owner == f"{USER}\n"
            running.stop(USER)
            assert namespace.mounts() == ["/mnt/vbn"]
            running.stop(MEMBER)
            assert namespace.mounts() == ["/mnt/vbn"]
