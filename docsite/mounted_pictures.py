"""Pictures of what a mount shows: made on one, of a small genuine release on a server of this machine."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py

from docsite.terminal_picture import terminal
from vbnfs.config.environment import variables_for_settings_in
from vbnfs.demo.release import make_release
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import BUCKET, upload

# One session, with as many channels and images as the demo's, and as many units as make its arrays prevail.
_SCALE = replace(ReleaseScale(), ecephys_sessions=1, behavior_sessions=0, units_per_session=120, lfp_seconds=1)

_READER = """
import sys, time
with open(sys.argv[1], "rb", buffering=0) as file:
    print(flush=True)
    while True:
        if not file.read(128 * 1024):
            file.seek(0)
        time.sleep(0.005)
"""


def drawn_in_a_mount(folder: Path) -> dict[str, bytes]:
    """The pictures, by the names of their files. `folder` is an empty one to work in; nothing of it is used later."""
    with _mounted(folder) as (mountpoint, variables):
        [session] = (mountpoint / "ecephys_sessions").iterdir()
        _read_one_unit(session)
        picture = folder / "map.svg"
        _vbnfs("map", str(session), "--output", str(picture), env=variables)
        with _reading(session):
            shown = _vbnfs("top", "--once", str(mountpoint), env=variables)
        top = terminal("vbnfs top", "vbnfs top", shown.replace(str(mountpoint), "/home/me/vbn"))
        return {picture.name: picture.read_bytes(), "top.svg": top.svg().encode()}


def _read_one_unit(session: Path) -> None:
    with h5py.File(session) as file:
        units = file["units"]
        units["spike_times"][: int(units["spike_times_index"][0])]
    os.getxattr(session, "user.vbnfs.cached")  # waits until what was read is on the disk


@contextmanager
def _reading(session: Path) -> Iterator[None]:
    """Another program reads the session from its start, a piece every few milliseconds, until it is ended."""
    command = [sys.executable, "-c", _READER, str(session)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout is not None
            reader.stdout.readline()  # it has begun
            yield
        finally:
            reader.kill()


@contextmanager
def _mounted(folder: Path) -> Iterator[tuple[Path, Mapping[str, str]]]:
    mountpoint = folder / "vbn"
    with release_served(folder, _SCALE) as variables:
        _vbnfs("mount", str(mountpoint), env=variables)
        try:
            yield mountpoint, variables
        finally:
            _vbnfs("umount", str(mountpoint), env=variables)


@contextmanager
def release_served(folder: Path, scale: ReleaseScale) -> Iterator[Mapping[str, str]]:
    """A server of a release that is made in `folder`; the variables by which vbnfs finds it."""
    settings = folder / "vbnfs.toml"
    release = make_release(folder / "release", scale=scale)
    with SeaweedServer(folder / "s3") as server:
        server.make_bucket(BUCKET)
        upload(release, server.client())
        settings.write_text(
            f'endpoint_url = "{server.endpoint_url}"\ncache_dir = "{folder / "cache"}"\n'
            f'log_file = "{folder / "vbnfs.log"}"\n'
        )
        yield variables_for_settings_in(settings)


def _vbnfs(*arguments: str, env: Mapping[str, str]) -> str:
    command = [sys.executable, "-m", "vbnfs", *arguments]
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
