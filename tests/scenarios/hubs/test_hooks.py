"""The hooks of deploy/jupyterhub/vbnfs_hub.py, called as a hub calls them, with real mounts."""

import asyncio
import importlib.util
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, until
from tests.scenarios.hosts.programs import vbnfs_program
from vbnfs.host.mountinfo import find_mount, mounts_on

HOOKS = Path(__file__).parents[3] / "deploy" / "jupyterhub" / "vbnfs_hub.py"


@dataclass
class User:
    """A user of the hub."""

    name: str = "me"
    spawners: dict[str, "Spawner"] = field(default_factory=dict)


@dataclass
class Spawner:
    """A server of a user's."""

    user: User
    name: str = ""
    active: bool = True
    environment: dict[str, Any] = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("hub"))

    def __post_init__(self) -> None:
        self.user.spawners[self.name] = self


@pytest.fixture
def hooks() -> ModuleType:
    """The file, imported as a hub's configuration imports it."""
    spec = importlib.util.spec_from_file_location("vbnfs_hub", HOOKS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset."""
    with serve({"0.4.0": {"project_metadata/units.csv": b"unit_id\n1\n"}}) as server:
        yield server


@pytest.fixture
def place(mounts: Mounts) -> Callable[[Path], Mount]:
    """Names a folder on which a test has something mounted, which is taken away behind the test."""

    def placed(path: Path) -> Mount:
        mounts.made.append(Mount(path, []))
        return mounts.made[-1]

    return placed


@pytest.mark.slow
def test_one_mount_for_all(
    hooks: ModuleType, server: FakeS3Server, tmp_path: Path, place: Callable[[Path], Mount]
) -> None:
    """Servers that start together wait for one mount; one that has died is made anew; none is taken away."""
    mounted = place(tmp_path / "vbn")
    folder = str(mounted.path)
    mount = hooks.Mount(folder, "--endpoint-url", server.endpoint_url, vbnfs=vbnfs_program(tmp_path))

    async def start(*spawners: Spawner) -> None:
        await asyncio.gather(*map(mount.pre_spawn, spawners))

    spawners = [Spawner(User(f"user{number}"), environment={"VBN_PROBLEM": "before"}) for number in range(5)]
    asyncio.run(start(*spawners))
    assert [spawner.environment for spawner in spawners] == [{"VBN": folder}] * 5
    assert len(mounts_on(mounted.path)) == 1
    assert (mounted.path / "project_metadata/units.csv").read_bytes() == b"unit_id\n1\n"
    os.kill(mounted.status()["pid"], signal.SIGKILL)
    until(lambda: not os.path.ismount(folder))
    asyncio.run(start(spawners[0]))
    assert (mounted.path / "project_metadata/units.csv").read_bytes() == b"unit_id\n1\n"
    asyncio.run(mount.post_stop(spawners[0]))
    assert find_mount(mounted.path) is not None


@pytest.mark.slow
def test_a_mount_for_each_user(
    hooks: ModuleType, server: FakeS3Server, tmp_path: Path, place: Callable[[Path], Mount]
) -> None:
    """A user's own mount is there until the last of that user's servers has stopped."""
    mounted = place(tmp_path / "root" / "vbn")
    mounted.path.parent.mkdir()
    options = ("--endpoint-url", server.endpoint_url)
    mount = hooks.Mount(f"{tmp_path}/{{username}}/vbn", *options, vbnfs=vbnfs_program(tmp_path))
    user = User("root")
    first, second = Spawner(user), Spawner(user, "second")

    async def start_and_stop() -> None:
        await asyncio.gather(mount.pre_spawn(first), mount.pre_spawn(second))
        assert (first.environment, len(mounts_on(mounted.path))) == ({"VBN": str(mounted.path)}, 1)
        first.active = False
        await mount.post_stop(first)
        assert find_mount(mounted.path) is not None
        second.active = False
        for _ in range(2):
            await mount.post_stop(second)
            assert find_mount(mounted.path) is None

    asyncio.run(start_and_stop())


def test_a_server_starts_in_any_case(hooks: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What keeps the hook from mounting is in the server's environment and in the hub's log, and takes no longer."""
    failing, silent = tmp_path / "failing", tmp_path / "silent"
    failing.write_text("#!/bin/sh\necho 'vbnfs: the bucket cannot be reached' >&2\nexit 1\n")
    silent.write_text("#!/bin/sh\nexec sleep 1000\n")
    for program in (failing, silent):
        program.chmod(0o755)
    folder = str(tmp_path / "vbn")
    own = str(tmp_path / "{username}" / "vbn")
    for mount, problem in (
        (hooks.Mount(folder, vbnfs=str(failing)), "vbnfs: the bucket cannot be reached"),
        (hooks.Mount(folder, vbnfs=str(silent), seconds=0.5), "no answer within 0.5 s"),
        (hooks.Mount(folder, vbnfs="/no/vbnfs"), "/no/vbnfs: No such file or directory"),
        (hooks.Mount(own, vbnfs=str(failing)), "the machine has no user nobody-at-all"),
    ):
        spawner = Spawner(User("nobody-at-all"), environment={"VBN": "before"})
        if os.geteuid() != 0 and "no user" in problem:
            continue  # only root's hub has servers of other users
        asyncio.run(mount.pre_spawn(spawner))
        assert spawner.environment == {"VBN_PROBLEM": problem}
        assert f"nobody-at-all: no dataset: {problem}" in caplog.text
