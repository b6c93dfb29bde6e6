"""The dataset on a JupyterHub: hooks of its spawners that mount it before a user's server starts.

In jupyterhub_config.py, with this file in /etc/jupyterhub:

    import sys

    sys.path.insert(0, "/etc/jupyterhub")
    from vbnfs_hub import Mount

    mount = Mount("/mnt/vbn", "--config", "/etc/vbnfs/hub.toml")
    c.Spawner.pre_spawn_hook = mount.pre_spawn
    c.Spawner.post_stop_hook = mount.post_stop

A folder without `{username}` is one mount for all users, made by the hub's user and left in place. With it, such as
`/home/{username}/vbn`, each user has a mount of their own, made as that user by root's hub, and taken away behind the
last server.
It is for spawners whose servers run on the hub's machine: LocalProcessSpawner, SystemdSpawner, SudoSpawner.

A server starts also if nothing can be mounted. Its environment has the folder in VBN, or the reason in VBN_PROBLEM.
"""

import asyncio
import os
import pwd
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from logging import Logger
from typing import Any, Final, Protocol

_END_SECONDS: Final = 3.0


class User(Protocol):
    """A user of the hub (jupyterhub.user.User)."""

    name: str
    spawners: Mapping[str, Any]


class Spawner(Protocol):
    """What the hooks need of a spawner (jupyterhub.spawner.Spawner)."""

    user: User
    environment: MutableMapping[str, Any]
    log: Logger


class Mount:
    """A mount for the servers of a hub. `options` are those of `vbnfs mount`.

    `seconds` is how long a server may wait for it; the hub gives a spawn 60 (`Spawner.start_timeout`).
    """

    def __init__(
        self, folder: str, *options: str, vbnfs: str = "/usr/local/bin/vbnfs", seconds: float = 30.0
    ) -> None:
        self._folder = folder
        self._options = options
        self._vbnfs = vbnfs
        self._seconds = seconds
        self._locks: dict[str, asyncio.Lock] = {}  # two servers of one folder begin at the same time

    @property
    def _is_of_each_user(self) -> bool:
        return "{username}" in self._folder

    async def pre_spawn(self, spawner: Spawner) -> None:
        """Mount, unless it is mounted already, and have the server's environment say where, or why not."""
        folder = self._folder_of(spawner)
        async with self._locks.setdefault(folder, asyncio.Lock()):
            problem = await self._mount(spawner, folder)
        for name in ("VBN", "VBN_PROBLEM"):  # of the server before this one
            spawner.environment.pop(name, None)
        if problem is None:
            spawner.environment["VBN"] = folder
        else:
            spawner.environment["VBN_PROBLEM"] = problem
            spawner.log.warning("%s: no dataset: %s", spawner.user.name, problem)

    async def post_stop(self, spawner: Spawner) -> None:
        """Take a user's own mount away, unless another server of that user runs."""
        others = (one for one in spawner.user.spawners.values() if one is not spawner)
        if not self._is_of_each_user or any(one.active for one in others):
            return
        folder = self._folder_of(spawner)
        async with self._locks.setdefault(folder, asyncio.Lock()):
            command = [self._vbnfs, "umount", "--if-mounted", "--lazy", folder]
            if problem := await self._problem(spawner, *command):
                spawner.log.warning("%s: not unmounted: %s", spawner.user.name, problem)

    def _folder_of(self, spawner: Spawner) -> str:
        return self._folder.replace("{username}", spawner.user.name)

    def _identity(self, spawner: Spawner) -> dict[str, Any]:
        """As which user commands run: the hub's, or that of the server, whom only root can become."""
        if not self._is_of_each_user or os.geteuid() != 0:
            return {}
        user = pwd.getpwnam(spawner.user.name)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "VBNFS_"))}
        env = {**ours, "HOME": user.pw_dir, "USER": user.pw_name}
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups, "env": env}

    async def _mount(self, spawner: Spawner, folder: str) -> str | None:
        """Why there is no mount, or None. A dead one is not a mount point to mountpoint(1), and is made anew."""
        if await self._problem(spawner, "mountpoint", "--quiet", folder) is None:
            return None
        return await self._problem(spawner, self._vbnfs, "mount", *self._options, folder)

    async def _problem(self, spawner: Spawner, *command: str) -> str | None:
        """Run a command; what it says of its failure, or None. The hub serves others meanwhile."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd="/",
                **self._identity(spawner),
            )
        except KeyError:
            return f"the machine has no user {spawner.user.name}"
        except OSError as error:
            return f"{command[0]}: {error.strerror}"
        try:
            said, _ = await asyncio.wait_for(process.communicate(), self._seconds)
        except TimeoutError:
            await _end(process)
            return f"no answer within {self._seconds:g} s"
        return None if process.returncode == 0 else said.decode(errors="replace").strip() or command[0]


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command that takes too long. On SIGTERM `vbnfs mount` mounts nothing any more."""
    for end in (process.terminate, process.kill):
        with suppress(ProcessLookupError):
            end()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_SECONDS)
            return
