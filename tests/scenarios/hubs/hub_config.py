"""The jupyterhub_config.py of a test's hub: docs/jupyterhub.md's, with two mounts, and all servers on this machine.

It has no proxy in front, so that it needs no Node.js: who is served where is written into a folder. Its variables
begin with TEST_. It is run by the Python of .venv-jupyterhub.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from jupyterhub.proxy import Proxy

PLACES = {name: os.environ[f"TEST_{name}"] for name in ("DEPLOYED", "FOLDER", "URL", "TOKEN", "VBNFS", "OPTIONS")}
sys.path.insert(0, PLACES["DEPLOYED"])
from vbnfs_hub import Mount  # noqa: E402

of_all = Mount("/mnt/vbn", *json.loads(PLACES["OPTIONS"]), vbnfs=PLACES["VBNFS"], seconds=120)
of_each = Mount("/mnt/{username}/vbn", vbnfs=PLACES["VBNFS"], seconds=120)


class Routes(Proxy):
    """What a proxy would be given."""

    should_start = False
    routes: dict[str, Any] = {}  # noqa: RUF012 - there is one

    async def add_route(self, routespec: str, target: str, data: Any) -> None:
        """Add one, and write it down for the test."""
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}
        Path(PLACES["FOLDER"], "routes").write_text(json.dumps(self.routes))

    async def delete_route(self, routespec: str) -> None:
        """Take one away."""
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, Any]:
        """All of them."""
        return self.routes


# Behind a file that says what its environment has, one user has a server of notebooks, and one a server of files.
NOTES = 'env | grep ^VBN >"$HOME/environment"; '
SERVES_FILES = """port=${JUPYTERHUB_SERVICE_URL#http://*:}
exec python3 -m http.server --bind 127.0.0.1 --directory /mnt "${port%%/*}"
"""


async def pre_spawn(spawner: Any) -> None:
    """Mount, for one user a mount of that user's own."""
    if spawner.user.name == "somebody":
        await of_each.pre_spawn(spawner)
    else:
        await of_all.pre_spawn(spawner)
        spawner.cmd = ["sh", "-c", NOTES + SERVES_FILES]


async def post_stop(spawner: Any) -> None:
    """Take a user's own mount away."""
    await (of_each if spawner.user.name == "somebody" else of_all).post_stop(spawner)


c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub gives it
c.JupyterHub.proxy_class = Routes
c.JupyterHub.bind_url = "http://127.0.0.1:1"
c.JupyterHub.hub_bind_url = PLACES["URL"]
c.JupyterHub.db_url = f"sqlite:///{PLACES['FOLDER']}/hub.sqlite"
c.JupyterHub.cookie_secret_file = f"{PLACES['FOLDER']}/cookie_secret"
c.JupyterHub.services = [{"name": "test", "api_token": PLACES["TOKEN"]}]
scopes = ["admin:users", "admin:servers", "access:servers"]
c.JupyterHub.load_roles = [{"name": "test", "services": ["test"], "scopes": scopes}]
c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
c.Spawner.cmd = ["sh", "-c", f'{NOTES}exec "$0" "$@"', f"{sys.prefix}/bin/jupyterhub-singleuser"]
c.Spawner.start_timeout = c.Spawner.http_timeout = 240  # a busy machine is no failure
c.LocalProcessSpawner.interrupt_timeout = 2
c.Spawner.notebook_dir = "/mnt"
c.Spawner.pre_spawn_hook = pre_spawn
c.Spawner.post_stop_hook = post_stop
