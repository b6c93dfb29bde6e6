"""`vbnfs demo`: a real S3 server with a small genuine release, mounted, and a short tour of it.

Everything that is shown is executed: shell commands by the shell's programs in the demo's folder, Python by pandas
and h5py on the mounted files; figures come from the daemon. In a folder that the user names, the release stays, and
the next demo uses it again.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

import h5py
import pandas as pd

from vbnfs.access.mount_status import ask_status
from vbnfs.access.running_mounts import daemon_of
from vbnfs.config.environment import variables_for_settings_in
from vbnfs.demo.release import make_release
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import BUCKET, upload
from vbnfs.errors import DemoError, MountError
from vbnfs.host.documents import installed_page
from vbnfs.host.mountinfo import find_mount
from vbnfs.host.processes import has_exited

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_LOADED: Final = "release-is-loaded"  # a file in the demo's folder, made when the server has all objects
_LAST_SECONDS: Final = 15.0
_NEXT: Final = {
    "quick-start.md": "from nothing to the spikes of a unit, in ten minutes",
    "concepts.md": "what happens behind the folder, with pictures",
    "recipes.md": "pandas, pynwb, xarray, R, MATLAB, Julia, a shell",
    "from-allensdk.md": "AllenSDK's jobs, and how each goes here",
}
_SETTINGS: Final = "vbnfs.toml"  # settings for the demo's server: the user's own play no part


def run_demo(directory: Path | None, *, keep: bool, is_page: bool = False, scale: ReleaseScale | None = None) -> None:
    """Run the demo in `directory` (None: a temporary one, removed at the end). Raises a `VbnfsError`.

    `keep` leaves server and mount running until Ctrl-C; so does `is_page`, with the page of `vbnfs web`.
    """
    with _signals_end_it(), _workplace(directory) as place, SeaweedServer(place / "s3") as server:
        _say(f"An S3 server (SeaweedFS) runs at {server.endpoint_url}.")
        if server.lost_port is not None:
            _say_that_it_moved(server.lost_port)
        _load(place, server, scale)
        _write_settings(place, server.endpoint_url)
        with _mounted(place, server.endpoint_url):
            _Tour(place).walk()
            if is_page:
                _show_the_page(place)
            elif keep:
                _wait_for_interrupt(place)
    _say_goodbye(directory)


def _say_that_it_moved(lost_port: int) -> None:
    print(f"Last time it was at port {lost_port}, which another program has now ('ss -ltnp' shows which).")
    print("The cache knows servers by their address: what was read is fetched again. Settings with the old address")
    print("need the new one.", flush=True)


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """While entered, SIGINT and SIGTERM end it in order. Afterwards they do what they did before, unless one came."""
    before = {number: signal.signal(number, _end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _end:
                signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """End in order, also where a script ignores Ctrl-C. From now on signals are ignored, here and in new children."""
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _workplace(directory: Path | None) -> Iterator[Path]:
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="vbnfs-demo-") as name:
            yield Path(name)
        return
    place = Path(os.path.realpath(directory))
    try:
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()) and not (place / "s3").is_dir():
            raise DemoError(f"{directory}: not empty, and not a demo's folder; name another one")
    except OSError as error:
        raise DemoError(f"{directory}: {error.strerror}") from error
    yield place


def _load(place: Path, server: SeaweedServer, scale: ReleaseScale | None) -> None:
    """Make a release and upload it to the server, unless an earlier demo has."""
    if (place / _LOADED).exists():
        _say("It has the release of the last demo.")
        return
    _say("Making a release: NWB files by pynwb, tables by pandas, four dataset versions ...")
    release = make_release(place / "release", scale=scale, report=_report)
    server.make_bucket(BUCKET)
    uploaded = upload(release, server.client(), report=_report)
    _report("")
    files = {file.file_hash: file for version in uploaded.files.values() for file in version.values()}
    total = sum(file.size_bytes for file in files.values())
    _say(f"Loaded: {len(uploaded.versions)} dataset versions, {len(files)} different files, {_mebibytes(total)}.")
    (place / _LOADED).touch()


def _write_settings(place: Path, endpoint_url: str) -> None:
    (place / _SETTINGS).write_text(
        f"endpoint_url = {json.dumps(endpoint_url)}\ncache_dir = {json.dumps(str(place / 'cache'))}\n"
    )


@contextmanager
def _mounted(place: Path, endpoint_url: str) -> Iterator[None]:
    mountpoint = place / "mnt"
    mountpoint.mkdir(exist_ok=True)
    _say("Now as you would do it (you would leave --endpoint-url and --cache-dir out):")
    options = ["--endpoint-url", endpoint_url, "--cache-dir", "cache", "--log-file", "vbnfs.log"]
    _vbnfs(place, "mount", "mnt", *options)
    try:
        yield
    finally:
        _unmount(place)


def _unmount(place: Path) -> None:
    """Take the mount away, if it is there. What a program uses is detached, and its daemon is ended.

    A daemon that goes on would write into a cache that the demo deletes, and make its folders anew.
    """
    mountpoint = place / "mnt"
    for option in ((), ("--lazy",)):
        if (entry := find_mount(mountpoint)) is not None:
            daemon = daemon_of(entry) if option else 0
            with suppress(MountError):  # the command has said why
                _vbnfs(place, "umount", *option, "mnt")
            if daemon:
                _end_daemon(daemon)
    if find_mount(mountpoint) is not None:
        raise MountError(f"{mountpoint}: still mounted after all: 'vbnfs umount --lazy {mountpoint}' takes it away")


def _end_daemon(pid: int) -> None:
    """End a daemon in order, and wait for it, though not without end."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _LAST_SECONDS
    while not has_exited(pid) and time.monotonic() < deadline:
        time.sleep(0.02)


class _Tour:
    """The tour of the mount in `place`/mnt."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._mount = place / "mnt"

    def walk(self) -> None:
        """Show everything, in order."""
        _shell(self._place, "ls", "mnt", "mnt/manifests", "mnt/ecephys_sessions")
        self._read_a_table()
        session = self._read_a_session()
        self._compare_sizes(session)
        self._read_in_two_versions()
        _vbnfs(self._place, "status", "mnt")

    def _read_a_table(self) -> None:
        _say("A table, with pandas:")
        table = "mnt/project_metadata/ecephys_sessions.csv"
        print(f">>> pd.read_csv({table!r})[columns]")
        columns = ["ecephys_session_id", "session_type", "genotype", "sex", "unit_count", "probe_count"]
        frame = pd.read_csv(self._place / table)[columns]
        print(frame.to_string(index=False, max_colwidth=28))

    def _read_a_session(self) -> Path:
        """Read one unit's spike times by h5py. Returns the session's path, relative to the demo's folder."""
        session = min((self._mount / "ecephys_sessions").iterdir()).relative_to(self._place)
        _say("One unit's spikes out of a session, with h5py:")
        print(f">>> units = h5py.File({str(session)!r})['units']")
        print(">>> units['spike_times'][:units['spike_times_index'][0]]")
        with h5py.File(self._place / session) as file:
            units: Any = file["units"]
            spikes = units["spike_times"][: int(units["spike_times_index"][0])]
        print(spikes)
        return session

    def _compare_sizes(self, session: Path) -> None:
        counts = self._counts()
        size_bytes = (self._place / session).stat().st_size
        os.getxattr(self._place / session, "user.vbnfs.cached")  # waits until what was read is on the disk, for du
        _say(
            f"So far {_mebibytes(counts['received_bytes'])} were fetched, tables included, in"
            f" {counts['range_requests']} requests. ls shows the session's size, du what is cached of it:"
        )
        _shell(self._place, "ls", "-lh", str(session))
        _shell(self._place, "du", "-h", str(session))
        if counts["received_bytes"] > size_bytes + 100_000_000:
            raise MountError("more was fetched than was read: that is a defect of vbnfs")

    def _read_in_two_versions(self) -> None:
        """Read a file that two versions share, in both, and show that the second time needs no request."""
        old, new = self._shared_file()
        _say("A file that two dataset versions share, read in one and then in the other:")
        for path in (old, new):
            before = self._counts()
            digest = _blake2b(self._place / path)
            after = self._counts()
            requests = after["range_requests"] - before["range_requests"]
            fetched = after["received_bytes"] - before["received_bytes"]
            print(f"  {path}\n    blake2b {digest[:16]}...  {requests} requests, {_mebibytes(fetched)} fetched")
        if requests:
            raise MountError("a shared file was fetched twice: that is a defect of vbnfs")
        _say("Both names lead to one file: the number in front, its inode, is the same. The cache has it once.")
        _shell(self._place, "ls", "-li", str(old), str(new))

    def _shared_file(self) -> tuple[Path, Path]:
        """A session's path in the oldest version, and another path of the same inode in a newer one."""
        manifests = self._mount / "manifests"
        versions = sorted(path for path in manifests.iterdir() if path.name != "latest")
        for old in sorted((versions[0] / "ecephys_sessions").iterdir()):
            for version in reversed(versions[1:]):
                for new in sorted(version.rglob(old.name)):
                    if new.samefile(old):
                        return old.relative_to(self._place), new.relative_to(self._place)
        raise MountError("the release has no file that two versions share")

    def _counts(self) -> dict[str, int]:
        entry = find_mount(self._mount)
        if entry is None:
            raise MountError(f"{self._mount}: not mounted any more; see {self._place / 'vbnfs.log'}")
        counts: dict[str, int] = ask_status(entry)["metrics"]
        return counts


def _say_goodbye(directory: Path | None) -> None:
    """Print what the demo leaves, and what to do now."""
    _say("Done: unmounted, and the S3 server has ended.")
    # After script/demo it is not on the PATH.
    program = "vbnfs" if shutil.which("vbnfs") else os.path.relpath(Path(sys.executable).with_name("vbnfs"))
    if directory is None:
        print(f"Release and cache were in a temporary folder, and are gone; '{program} demo DIR' keeps them in DIR.")
    else:
        print(f"The release and the cache are still in {directory}: '{program} demo {directory}' uses them again.")
    print(f"'{program} demo --keep' leaves the demo mounted, to look around.")
    _say("Now the real dataset; nothing of it is downloaded before you read it:")
    print(f"$ {program} mount ~/vbn")
    _say("Where to go next:")
    for name, what in _NEXT.items():
        if (page := installed_page(name)) is not None:
            print(f"{os.path.relpath(page):<24} {what}")
    print(f"{f'{program} --help':<24} all commands", flush=True)


def _wait_for_interrupt(place: Path) -> None:
    with suppress(KeyboardInterrupt):
        _say(f"For your own commands on it: --config {place / _SETTINGS}, which has")
        print((place / _SETTINGS).read_text(), end="")
        print(f"In Python: vbnfs.Dataset(config_file={str(place / _SETTINGS)!r}), or the variable VBNFS_CONFIG.")
        _say(f"Look around in {place / 'mnt'}; Ctrl-C here ends the demo.")
        threading.Event().wait()


def _show_the_page(place: Path) -> None:
    with suppress(KeyboardInterrupt):
        _say("All of it in a browser: open the address. Ctrl-C here ends the demo.")
        _vbnfs(place, "web", "--port", "0")


def _vbnfs(place: Path, *arguments: str) -> None:
    print("$ vbnfs", *arguments, flush=True)
    command, env = [sys.executable, "-m", "vbnfs", *arguments], variables_for_settings_in(place / _SETTINGS)
    done = subprocess.run(command, cwd=place, env=env, check=False)
    if done.returncode != 0:
        raise MountError(f"'vbnfs {arguments[0]}' ended with status {done.returncode}")


def _shell(place: Path, *command: str) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, cwd=place, check=True)


def _say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def _report(message: str) -> None:
    """Show progress on a terminal, in one line that is overwritten."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{message[:100]}")
        sys.stderr.flush()


def _blake2b(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.1f} MiB"
