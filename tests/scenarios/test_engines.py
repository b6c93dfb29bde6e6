"""Two engines, one release: whatever a program can see of a mount is the same with each."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, for_kind
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, drop_pages, run_vbnfs, until
from vbnfs.fuse.engines import ENGINES

SESSION = "behavior_ecephys_sessions/1044/ecephys_session_1044.nwb"
FORBIDDEN = "behavior_ecephys_sessions/1044/forbidden.nwb"
FILES = {
    "project_metadata/units.csv": b"unit_id\n1\n",
    "project_metadata/empty.csv": b"",
    SESSION: Pattern(3_000_001),
    FORBIDDEN: Pattern(300_001),
    **{f"behavior_only_sessions/{number:03}/file {number}.nwb": b"%d" % number for number in range(200)},
}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two versions; one of the files cannot be read."""
    with serve({"0.1.0": {**FILES, SESSION: Pattern(2_000_000)}, "0.2.0": FILES}) as server:
        refusal = b"<Error><Code>AccessDenied</Code></Error>"
        server.behaviours.append(
            for_kind(
                "get_range",
                lambda request, honest: (
                    replace(honest, status=403, body=refusal).with_headers(Content_Range="")
                    if "forbidden" in request.path
                    else honest
                ),
            )
        )
        yield server


def test_options_for_the_kernel(mounts: Mounts, server: FakeS3Server, engine: str, tmp_path: Path) -> None:
    """Options that the kernel gets are in the list of mounts, with each engine; what one does not take is named."""
    mount = mounts(server.endpoint_url, "-o", "nodev,noexec,noatime,nodiratime,symfollow,fsname=lab:vbn,kernel_cache")
    [shown] = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {mount.path} " in line]
    assert " - fuse.vbnfs lab:vbn " in shown
    assert {"ro", "nodev", "noexec", "noatime"} <= set(shown.split()[5].split(","))
    mount.umount()
    (tmp_path / "other").mkdir()
    options = ("--endpoint-url", server.endpoint_url, "-o", "max_read=65536", tmp_path / "other")
    done = run_vbnfs("mount", *options)
    if engine == "native":
        assert (done.returncode, run_vbnfs("umount", tmp_path / "other").returncode) == (0, 0)
    else:
        assert (done.returncode, "max_read= is not for --fuse pyfuse3: leave it" in done.stderr) == (1, True)


def paths(top: Path) -> Iterator[Path]:
    """All that is in a mount, from its top; links are not followed."""
    yield top
    for folder, folders, files in os.walk(top):
        yield from (Path(folder, name) for name in sorted([*folders, *files]))


def kind(path: Path) -> int:
    """S_IFDIR and others."""
    return stat.S_IFMT(path.lstat().st_mode)


def listed(top: Path) -> list[tuple[str, ...]]:
    """Names, inodes and kinds as folders list them, in their order."""
    found: list[tuple[str, ...]] = []
    for folder in (path for path in paths(top) if path.is_dir() and not path.is_symlink()):
        with os.scandir(folder) as entries:
            found += [
                (str(folder), entry.name, str(entry.inode()), str(entry.is_dir(follow_symlinks=False)))
                for entry in entries
            ]
    return found


def attributes(path: Path) -> tuple[int, ...]:
    """What lstat(2) says, but for the device."""
    status = path.lstat()
    times = (status.st_mtime_ns, status.st_ctime_ns, status.st_atime_ns)
    owner = (status.st_uid, status.st_gid)
    size = (status.st_size, status.st_blocks, status.st_blksize)
    return (status.st_ino, status.st_mode, status.st_nlink, *owner, *size, *times)


def provenance(path: Path) -> dict[str, object]:
    """The extended attributes, listed or not. What is known of `verified` depends on the moment."""
    names = os.listxattr(path, follow_symlinks=False)
    assert len(set(names)) == len(names)
    unlisted = (f"user.vbnfs.{name}" for name in ("cached", "read_by", "last_error"))
    return {name: outcome(partial(os.getxattr, path, name)) for name in (*names, *unlisted)}


def data(path: Path) -> bytes | int:
    """A file's bytes, or the errno with which reading it fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        return error.errno or 0


def outcome(call: Callable[[], object]) -> object:
    """What a call gives, or the errno with which it fails."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def outcomes(top: Path) -> list[object]:
    """What is answered to questions of which most are refused."""
    session, folder = top / SESSION, top / "behavior_only_sessions"
    status = os.statvfs(top)
    return [
        outcome(call)
        for call in (
            (top / "nothing").stat,
            (top / ("x" * 256)).stat,
            (top / ("x" * 255)).stat,
            (top / "manifests" / "v9.9.9").stat,
            lambda: os.listdir(session),
            lambda: os.open(folder, os.O_RDWR),
            lambda: os.open(session, os.O_RDWR),
            lambda: os.readlink(session),
            lambda: os.getxattr(session, "user.other"),
            lambda: os.getxattr(session, "security.capability"),
            lambda: os.getxattr(session, "system.posix_acl_access"),
            lambda: os.listxattr(folder),
            session.unlink,
            (top / "new").mkdir,
            lambda: os.setxattr(session, "user.x", b""),
            lambda: os.stat(f"{folder}/..").st_ino,
            lambda: os.stat(f"{folder}/.").st_ino,
        )
    ] + [(status.f_bsize, status.f_frsize, status.f_blocks, status.f_files, status.f_ffree, status.f_namemax)]


def seen(mount: Mount, server: FakeS3Server) -> dict[str, object]:
    """All that a program sees of a mount: cold, warm, and offline."""
    everything = list(paths(mount.path))
    files = [path for path in everything if stat.S_ISREG(kind(path))]
    view: dict[str, object] = {
        "listed": listed(mount.path),
        "attributes": {path: attributes(path) for path in everything},
        "links": {path: os.readlink(path) for path in everything if path.is_symlink()},
        "provenance": {path: provenance(path) for path in files},
        "cold": {path: data(path) for path in files},
        "outcomes": outcomes(mount.path),
    }
    requests = server.count("get_range")
    for path in files:
        drop_pages(path)
    good = [path for path in files if path.name != Path(FORBIDDEN).name]
    view["warm"] = {path: data(path) for path in good}
    assert server.count("get_range") == requests
    until(lambda: (mount.path / SESSION).stat().st_blocks * 512 >= 3_000_001)
    view["cached"] = {path: attributes(path) for path in good}
    mount.umount()
    mount.options.append("--offline")
    mount.mount()
    view["offline"] = {path: data(path) for path in files}
    mount.umount()
    return view


def test_engines_show_the_same(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Names, attributes, links, bytes and errnos are the same: cold, warm and offline."""
    views = {}
    for name in ENGINES:
        cache = tmp_path / f"cache-{name}"
        view = seen(mounts(server.endpoint_url, "--fuse", name, "--cache-dir", cache, "--passthrough", "no"), server)
        view["links"] = {path: link.replace(str(cache), "") for path, link in view["links"].items()}  # type: ignore[attr-defined]
        views[name] = view
    first, *others = views.values()
    assert first["cold"][mounts.directory / "mnt" / SESSION] == FILES[SESSION][:]  # type: ignore[index]
    assert first["cold"][mounts.directory / "mnt" / FORBIDDEN] == errno.EACCES  # type: ignore[index]
    for other in others:
        for what, value in first.items():
            assert other[what] == value, what


def test_an_engine_that_is_not_installed(server: FakeS3Server, tmp_path: Path) -> None:
    """Without pyfuse3, `--fuse pyfuse3` fails and names what to install, and the other engine."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "pyfuse3.py").write_text("raise ImportError('No module named pyfuse3')")
    done = run_vbnfs(
        *("mount", "--fuse", "pyfuse3", "--endpoint-url", server.endpoint_url, tmp_path / "mnt"),
        env={"PYTHONPATH": str(tmp_path / "shadow")},
    )
    assert done.returncode == 1
    assert "pip install 'vbnfs[pyfuse3]'" in done.stderr
    assert "--fuse native" in done.stderr
    assert server.count() == 0


def test_an_engine_that_there_is_not(server: FakeS3Server, tmp_path: Path) -> None:
    """Another name is refused, and those that there are stand in the message."""
    done = run_vbnfs("mount", "--fuse", "fusepy", "--endpoint-url", server.endpoint_url, tmp_path / "mnt")
    assert done.returncode == 2
    assert "native or pyfuse3" in done.stderr


@pytest.mark.parametrize("name", ENGINES)
def test_only_one_engine_is_imported(name: str) -> None:
    """What a mount does not use it does not import."""
    script = f"import sys; from vbnfs.fuse import engines; engines.load({name!r}); print(*sys.modules)"
    modules = set(subprocess.check_output([sys.executable, "-c", script], text=True).split())
    assert ("pyfuse3" in modules) == (name == "pyfuse3")
    assert ("vbnfs.fuse.server" in modules) == (name == "native")
