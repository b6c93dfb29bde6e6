"""What SECURITY.md says: no shell, nobody else's files in the cache, nobody else at the control socket."""

import ast
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
import trio

from tests.fakes.cache_files import FILES, allocated_bytes, content_folders
from tests.fakes.dataset import FakeDataset, serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts, run_vbnfs, until
from tests.test_floors import MODULES, PACKAGE, words_of
from vbnfs.access import running_mounts
from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.inventory import FORMAT_1
from vbnfs.cache.verdict import Verdict
from vbnfs.cache.verdicts import Verdicts
from vbnfs.daemon import control
from vbnfs.dataset.stored_files import append_stored_line, read_stored, read_stored_lines, write_stored
from vbnfs.errors import CacheError, MountError
from vbnfs.host import peers, runtime
from vbnfs.host.mountinfo import MountEntry
from vbnfs.host.places import file_at
from vbnfs.objects import Content, ObjectVersion
from vbnfs.s3.addresses import aws_base

ROOT = PACKAGE.parent
SESSION = "ecephys_sessions/ecephys_session_1.nwb"
# What runs a shell, or runs what it reads.
DANGEROUS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn",
    "pickle", "marshal", "shelve", "eval", "exec",
}  # fmt: skip
NOBODY = 65534


def shells_of(tree: ast.Module) -> list[int]:
    """The lines that pass `shell=` to anything."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if any(keyword.arg == "shell" for keyword in call.keywords)]


def test_there_is_no_shell() -> None:
    """No module of vbnfs or of its benchmarks runs a shell, evaluates text or unpickles."""
    trees = dict(MODULES)
    for path in (ROOT / "benchmarks").rglob("*.py"):
        trees[str(path)] = ast.parse(path.read_text(encoding="utf-8"))
    assert len(trees) > 50
    for name, tree in trees.items():
        assert shells_of(tree) == [], name
        assert words_of(tree) & DANGEROUS == set(), name
    assert shells_of(ast.parse("import subprocess as s\ns.run('x', shell=True)")) == [2]


# The cache is its owner's


@contextmanager
def foreign(path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """While entered, a path is another user's: root gives it away; other users are another user themselves."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        yield
        os.chown(path, 0, 0, follow_symlinks=False)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: NOBODY)
            yield


def make_folder(path: Path) -> None:
    path.mkdir(parents=True)


def make_link(path: Path) -> None:
    path.parent.mkdir(parents=True)
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to(elsewhere)


LEVELS = (
    "blocks-v1",
    "blocks-v1/aws",
    "blocks-v1/aws/00",
    "blocks-v2",
    "blocks-v2/aws",
    "blocks-v2/aws/partial",
    "blocks-v2/aws/whole",
    "blocks-v2/aws/whole/00",
    "datasets-v1",
    "datasets-v1/aws/bucket/project/manifests",
    "verified-v1",
    "verified-v1/aws/bad",
    "verified-v1/aws/bad/content",
    "verified-v1/aws/good/00",
    "allensdk",
    "allensdk/manifest-last-used.txt",
)


@pytest.mark.parametrize("level", LEVELS)
def test_a_link_in_the_cache_is_refused(tmp_path: Path, level: str) -> None:
    """A link in place of a folder of the cache is refused by name, at every level, also one of our own."""
    make_link(tmp_path / "cache" / level)
    (tmp_path / "cache").chmod(0o700)
    with pytest.raises(CacheError, match=f"/{level}: a link"):
        prepare_cache_directory(tmp_path / "cache")


@pytest.mark.root
@pytest.mark.parametrize("level", LEVELS)
def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    """A folder of another user within the cache is refused by name, at every level; without it all is well."""
    path = tmp_path / "cache" / level
    make_folder(path)
    (tmp_path / "cache").chmod(0o700)
    with foreign(path, monkeypatch), pytest.raises(CacheError, match=r"belongs to somebody else"):
        prepare_cache_directory(tmp_path / "cache")
    prepare_cache_directory(tmp_path / "cache")


@pytest.mark.root
@pytest.mark.parametrize("make", [make_folder, make_link])
def test_another_users_cache_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    """Another user's folder in the cache's place is refused, and so is his link to a folder of ours."""
    path = tmp_path / "place" / "cache"
    make(path)
    with foreign(path, monkeypatch), pytest.raises(CacheError, match="must be yours"):
        prepare_cache_directory(path)
    prepare_cache_directory(path)


def test_open_folders_are_closed(tmp_path: Path) -> None:
    """Folders of ours within the cache that let others in, as an older umask left them, let nobody in afterwards."""
    path = tmp_path / "cache" / "blocks-v2" / "aws" / "whole" / "00"
    make_folder(path)
    (tmp_path / "cache").chmod(0o755)
    path.chmod(0o777)
    prepare_cache_directory(tmp_path / "cache")
    for folder in (tmp_path / "cache", *path.parents[:3], path):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_a_folder_of_other_files_is_not_closed(tmp_path: Path) -> None:
    """An open folder that has files, and nothing of a cache, stays as it is, and is refused by the name of a file."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab").chmod(0o755)
    (tmp_path / "lab" / "results.csv").write_text("1")
    with pytest.raises(CacheError, match=r"'results\.csv'.* name an empty folder with --cache-dir"):
        prepare_cache_directory(tmp_path / "lab")
    assert stat.S_IMODE((tmp_path / "lab").stat().st_mode) == 0o755
    assert os.listdir(tmp_path / "lab") == ["results.csv"]


def test_an_empty_disk_is_closed(tmp_path: Path) -> None:
    """The root folder of a new disk has `lost+found`, and can be a cache."""
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    (tmp_path / "disk").chmod(0o755)
    prepare_cache_directory(tmp_path / "disk")
    assert stat.S_IMODE((tmp_path / "disk").stat().st_mode) == 0o700


def test_preparing_a_cache_changes_nothing_else(tmp_path: Path) -> None:
    """A process that has a cache prepared makes files for others afterwards as before: its umask stays."""
    before = os.umask(0o022)
    try:
        prepare_cache_directory(tmp_path / "cache")
        (tmp_path / "for everybody").mkdir()
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("cache", "for everybody")] == [0o700, 0o755]


def test_nothing_in_the_cache_is_for_others(mounts: Mounts, tmp_path: Path) -> None:
    """With the most generous umask, every file and folder of the cache, and the log, is its owner's alone."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {SESSION: b"data"})
    before = os.umask(0)
    try:
        with FakeS3Server(dataset.store) as server:
            mount = mounts(server.endpoint_url)
            assert (mount.path / SESSION).read_bytes() == b"data"
            mount.umount()
    finally:
        os.umask(before)
    paths = [tmp_path / "vbnfs.log", tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
    assert len(paths) > 8
    assert {path: oct(path.lstat().st_mode) for path in paths if path.lstat().st_mode & 0o077} == {}


def test_a_mount_with_a_planted_link_is_refused(mounts: Mounts, tmp_path: Path) -> None:
    """`vbnfs mount` and `vbnfs versions` end with status 1 and the link's name."""
    make_link(tmp_path / "cache" / FORMAT)
    (tmp_path / "cache").chmod(0o700)
    (tmp_path / "mnt").mkdir()
    for command in (["mount", tmp_path / "mnt"], ["versions"]):
        done = run_vbnfs(*command, "--endpoint-url", "http://127.0.0.1:1")
        assert (done.returncode, f"{FORMAT}: a link" in done.stderr) == (1, True), done.stderr


@contextmanager
def folder_of_a_group(mode: int) -> Iterator[Path]:
    """A folder that every user can reach, as a lab's on a shared disk."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        lab = Path(directory) / "lab"
        lab.mkdir()
        lab.chmod(mode)
        yield lab


@pytest.mark.root
@pytest.mark.parametrize("command", [["mount", "mnt"], ["versions"], ["clean"]])
def test_a_cache_that_others_can_replace_is_refused(tmp_path: Path, command: list[str]) -> None:
    """In a folder that others can write: status 1, and the command that keeps them from it; it does."""
    (tmp_path / "mnt").mkdir()
    command = [name.replace("mnt", str(tmp_path / "mnt")) for name in command]
    with folder_of_a_group(0o777) as lab:
        (lab / "cache").mkdir(mode=0o700)
        asked = [] if command == ["clean"] else ["--endpoint-url", "http://[::1]:1"]
        done = run_vbnfs(*command, "--cache-dir", lab / "cache", *asked)
        assert (done.returncode, f"'chmod +t {lab}' (by its owner, root)" in done.stderr) == (1, True), done.stderr
        assert list((lab / "cache").iterdir()) == []
        lab.chmod(0o1777)
        done = run_vbnfs(*command, "--cache-dir", lab / "cache", *asked)
        assert done.returncode == bool(asked)
        assert "chmod" not in done.stderr


@pytest.mark.root
def test_a_cache_that_is_replaced_under_a_mount(mounts: Mounts) -> None:
    """Somebody renames it away and has a new one lead to another's files: none is deleted, and reads go on.

    The mount goes on in the folder that it checked, within its size.
    """
    data = os.urandom(12 << 20)
    dataset = FakeDataset()
    dataset.publish("0.1.0", {"first.nwb": data[:64], SESSION: data})
    with folder_of_a_group(0o755) as lab, FakeS3Server(dataset.store) as server:
        mount = mounts(server.endpoint_url, "--cache-dir", lab / "cache", "--cache-size", "4M")
        assert (mount.path / "first.nwb").read_bytes() == data[:64]
        theirs = lab.parent / "somebody"
        for number in range(5):
            folder = theirs / "aws" / "whole" / "ab" / f"ab{number}"
            folder.mkdir(parents=True)
            for name in FILES:
                (folder / name).write_bytes(bytes(1 << 20))
            (theirs / f"thesis{number}.txt").write_bytes(bytes(1 << 20))
        before = {path: path.lstat() for path in theirs.rglob("*")}
        lab.chmod(0o777)
        with being_nobody():
            (lab / "cache").rename(lab / "away")
            (lab / "cache").mkdir()
            (lab / "cache" / FORMAT).symlink_to(theirs)
        assert (mount.path / SESSION).read_bytes() == data
        until(lambda: mount.status()["metrics"]["evicted_contents"] > 0)
        assert {path: path.lstat() for path in theirs.rglob("*")} == before
        assert os.listdir(lab / "cache") == [FORMAT]
        assert 0 < allocated_bytes(lab / "away") <= 4.2 * (1 << 20)
        mount.umount()


def is_deleted(folder: Path) -> bool:
    """Delete a folder, in which a mount may just be making a file."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_a_cache_that_is_deleted_under_a_mount(mounts: Mounts, tmp_path: Path) -> None:
    """Reads go on, and what comes is kept in a folder that is made anew, for its owner alone."""
    with serve({"0.1.0": {"first.nwb": b"first", SESSION: b"second" * 1000}}) as server:
        mount = mounts(server.endpoint_url)
        assert (mount.path / "first.nwb").read_bytes() == b"first"
        first = mount.path / "first.nwb"
        until(lambda: os.getxattr(first, "user.vbnfs.verified").startswith(b"blake2b:"))
        until(lambda: is_deleted(tmp_path / "cache"))
        assert (mount.path / SESSION).read_bytes() == b"second" * 1000
        until(lambda: len(content_folders(tmp_path / "cache")) == 1)
        assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.root
def test_nothing_of_a_strange_cache_is_opened(tmp_path: Path) -> None:
    """`vbnfs clean` of another user's folder looks at nothing in it, nor does it wait for what looks like a size."""
    cache = tmp_path / "cache"
    for name in (FORMAT, FORMAT_1):
        (cache / name).mkdir(parents=True)
        os.mkfifo(cache / name / ".size")
    os.chown(cache, NOBODY, NOBODY)
    done = run_vbnfs("clean")
    assert (done.returncode, "must be yours" in done.stderr) == (1, True), done.stderr
    os.chown(cache, 0, 0)
    cache.chmod(0o700)
    done = run_vbnfs("clean")
    assert (done.returncode, "0 B of 100.0 GiB" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("name", FILES)
def test_another_users_content_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One of the two files that is another user's, or a link, is an error, which the cache takes for a miss."""
    folder = tmp_path / "ab12"
    ContentFile.create(file_at(folder), identity="ab12", data_bytes=4).write(0, b"data")
    with foreign(folder / name, monkeypatch), pytest.raises(PermissionError):
        ContentFile.open(file_at(folder), identity="ab12", data_bytes=4)
    assert ContentFile.open(file_at(folder), identity="ab12", data_bytes=4) is not None
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(OSError, match="symbolic links"):
        ContentFile.open(file_at(folder), identity="ab12", data_bytes=4)


def test_another_users_folder_of_a_content_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one with two files of ours, and a link to a folder of ours."""
    folder = tmp_path / "ab12"
    ContentFile.create(file_at(folder), identity="ab12", data_bytes=4).write(0, b"data")
    with foreign(folder, monkeypatch), pytest.raises(PermissionError):
        ContentFile.open(file_at(folder), identity="ab12", data_bytes=4)
    assert ContentFile.open(file_at(folder), identity="ab12", data_bytes=4) is not None
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match="Not a directory"):
        ContentFile.open(file_at(folder), identity="ab12", data_bytes=4)


def test_kept_files_behind_links_are_absent(tmp_path: Path) -> None:
    """A link in place of a kept file is not read, not written through, and not appended through."""
    real, link = tmp_path / "real", tmp_path / "link"
    write_stored(real, b"data")
    append_stored_line(tmp_path / "lines", b"text")
    link.symlink_to(real)
    assert read_stored(link) is None
    assert list(read_stored_lines(tmp_path / "lines")) == [b"text"]
    with pytest.raises(OSError, match="symbolic links"):
        append_stored_line(link, b"text")
    write_stored(link, b"other")
    assert (read_stored(real), read_stored(link)) == (b"data", b"other")


CONTENT = Content("ab12", 4, ObjectVersion("key", "version"), "0" * 128)
GOOD, BAD = Verdict("0" * 128, "fingerprint", "now"), Verdict("1" * 128, "fingerprint", "now", 2)


@pytest.mark.parametrize(("place", "verdict"), [("good/ab/ab12", GOOD), ("bad/ab12", BAD)])
def test_verdicts_behind_links_are_absent(tmp_path: Path, place: str, verdict: Verdict) -> None:
    """A link in place of a verdict is not read and not written through: what is found takes its place."""
    real, verdicts = tmp_path / "real", Verdicts(tmp_path, scope="aws")
    verdicts.keep(CONTENT, verdict)
    path = tmp_path / "verified-v1" / "aws" / place
    kept = path.read_bytes()
    path.rename(real)
    path.symlink_to(real)
    other = Verdicts(tmp_path, scope="aws")
    assert (other.good(CONTENT), other.refresh()) == (None, set())
    real.write_bytes(b"untouched")
    other.keep(CONTENT, verdict)
    assert real.read_bytes() == b"untouched"
    assert path.read_bytes() == kept
    assert not path.is_symlink()


@pytest.mark.root
@pytest.mark.parametrize(("place", "verdict"), [("good/ab/ab12", GOOD), ("bad/ab12", BAD)])
def test_another_users_verdict_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, verdict: Verdict
) -> None:
    """A verdict of another user counts for nothing, neither for a file nor against it; our own does."""
    Verdicts(tmp_path, scope="aws").keep(CONTENT, verdict)
    verdicts = Verdicts(tmp_path, scope="aws")
    with foreign(tmp_path / "verified-v1" / "aws" / place, monkeypatch):
        assert (verdicts.good(CONTENT), verdicts.refresh()) == (None, set())
    assert (verdicts.good(CONTENT) is not None or verdicts.refresh() == {"ab12"}) is True


# The control socket


def test_the_kernel_tells_who_is_there() -> None:
    """Both ends of a Unix socket learn the other's user."""
    for end in socket.socketpair():
        with end:
            assert peers.peer_of(end) == (os.getpid(), os.getuid())


async def test_somebody_else_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon answers its owner and root alone, and the asker believes the mount's owner and root alone."""
    entry = MountEntry(Path("/mnt/vbn"), "0:99998", "fuse.vbnfs", "dataset", os.getuid())
    path = runtime.socket_path(entry.owner, entry.device)
    asked: list[str] = []

    async def hello() -> dict[str, str]:
        asked.append("hello")
        return {}

    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, path, {"hello": hello})
        monkeypatch.setattr(peers, "peer_of", lambda connection: peers.Peer(1, NOBODY))
        with pytest.raises(MountError, match="somebody else answers"):
            await trio.to_thread.run_sync(running_mounts.ask, entry, "hello")
        with socket.socket(socket.AF_UNIX) as connection:
            await trio.to_thread.run_sync(connection.connect, str(path))
            with suppress(ConnectionResetError, BrokenPipeError):  # the question was not even read
                connection.sendall(b'{"command": "hello"}\n')
                assert await trio.to_thread.run_sync(connection.recv, 100) == b""
        nursery.cancel_scope.cancel()
    assert asked == []


@contextmanager
def being_nobody() -> Iterator[None]:
    """What this process does meanwhile is another user's doing, to the kernel."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def own_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets that can be opened to everybody while other mounts of the machine have theirs."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        monkeypatch.setattr(runtime, "runtime_directory", lambda owner: path)
        yield path


@pytest.mark.root
async def test_another_user_is_not_answered(own_run: Path) -> None:
    """Another user to whom a careless mode opens the socket is connected, and gets no answer; root is answered."""
    path = runtime.socket_path(0, "0:99997")
    asked: list[str] = []

    async def hello() -> dict[str, str]:
        asked.append("hello")
        return {}

    async def answer_to(connection: socket.socket) -> bytes:
        with connection, suppress(ConnectionResetError, BrokenPipeError):  # the question was not even read
            connection.sendall(b'{"command": "hello"}\n')
            return await trio.to_thread.run_sync(connection.recv, 100)
        return b""

    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, path, {"hello": hello})
        for opened in (own_run, path):
            opened.chmod(0o777)
        for user, expected in ((being_nobody(), b""), (nullcontext(), b'{"ok": true}\n')):
            connection = socket.socket(socket.AF_UNIX)
            with user:
                connection.connect(str(path))
            assert await answer_to(connection) == expected
        nursery.cancel_scope.cancel()
    assert asked == ["hello"]


@pytest.mark.root
def test_another_users_answer_is_not_believed(own_run: Path) -> None:
    """Where another user listens at a mount's socket, root does not believe him, and asks him nothing."""
    entry = MountEntry(Path("/mnt/vbn"), "0:99996", "fuse.vbnfs", "dataset", 0)
    own_run.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as listener:
        with being_nobody():
            listener.bind(str(runtime.socket_path(0, entry.device)))
            listener.listen()
        with pytest.raises(MountError, match="somebody else answers"):
            running_mounts.ask(entry, "hello")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == b""


# The network and the mount


@pytest.mark.parametrize("bucket", ["visual-behavior-neuropixels-data", "with.dots"])
def test_aws_is_asked_by_https_alone(bucket: str) -> None:
    """Without an endpoint every address is https, on a host of amazonaws.com."""
    base = aws_base(bucket, "us-west-2")
    assert base.startswith("https://")
    assert base.partition("https://")[2].partition("/")[0].endswith(".amazonaws.com")


@pytest.mark.parametrize(("options", "is_open"), [((), False), (("--allow-other",), True)])
def test_the_kernel_checks_permissions(mounts: Mounts, options: tuple[str, ...], is_open: bool) -> None:
    """The mount is read-only, has the kernel check modes, grants no set-uid, and is for others only when asked."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {SESSION: b"data"})
    if is_open and os.geteuid() != 0:
        options = ()  # user_allow_other is the administrator's to give
    with FakeS3Server(dataset.store) as server:
        mount = mounts(server.endpoint_url, *options)
        [line] = [line for line in Path("/proc/mounts").read_text().splitlines() if str(mount.path) in line]
    given = set(line.split()[3].split(","))
    assert {"ro", "nosuid", "nodev", "default_permissions"} <= given
    assert ("allow_other" in given) == bool(options)
