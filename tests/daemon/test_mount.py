"""The life of a mount: how it begins, what it survives, how it ends. Real mounts on a scripted server."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.children import children_of
from tests.fakes.dataset import BUCKET, FakeDataset
from tests.fakes.s3_server import (
    LISTING_REFUSED,
    Behaviour,
    FakeS3Server,
    always,
    cut_after,
    error,
    for_kind,
    header,
    held,
)
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.dataset.stored_files import write_stored
from vbnfs.host.mountinfo import find_mount

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
SESSION_BYTES = Pattern(3_000_001)
FILES = {"project_metadata/units.csv": b"unit_id\n1\n", SESSION: SESSION_BYTES}
BUSY_SECONDS = 8.0  # of a machine that does other things, too; the default of --io-timeout is 30


@pytest.fixture
def dataset() -> FakeDataset:
    """Version 0.1.0 of a dataset with a table and a session."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", FILES)
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    """A server of the dataset."""
    with FakeS3Server(dataset.store) as server:
        yield server


def documented_names(heading: str) -> set[str]:
    """The names in the first column of the table below a heading of docs/watching.md."""
    text = (Path(__file__).parents[2] / "docs" / "watching.md").read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    first_columns = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for column in first_columns for name in re.findall(r"`(\w+)`", column)}


def errno_of(path: Path) -> int:
    """The errno with which reading a file fails."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        path.read_bytes()
    assert caught.value.errno is not None
    return caught.value.errno


def is_read_well(path: Path) -> bool:
    """Whether the session can be read; it is right then."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    assert data == SESSION_BYTES[:]
    return True


# Beginning


def test_what_its_caller_has_open_is_not_held(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A daemon holds no lock of the program that started it, and no pipe that another one reads to its end."""
    mount = Mount(tmp_path / "mnt", ["--endpoint-url", server.endpoint_url])
    mounts.made.append(mount)
    mount.path.mkdir()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    vbnfs = [sys.executable, "-m", "vbnfs", "mount", *mount.options, str(mount.path)]
    subprocess.run(["flock", tmp_path / "lock", *vbnfs], check=True, pass_fds=[writing], capture_output=True)
    os.close(writing)
    assert os.read(reading, 1) == b""  # its end: nothing can write to it any more
    os.close(reading)
    assert subprocess.run(["flock", "--nonblock", tmp_path / "lock", "true"], check=False).returncode == 0
    assert (mount.path / "project_metadata/units.csv").read_bytes() == b"unit_id\n1\n"


@pytest.mark.usefixtures("engine")
def test_mount_returns_when_the_tree_can_be_listed(mounts: Mounts, server: FakeS3Server) -> None:
    """`vbnfs mount` says nothing, exits 0, and the files are there; nothing but metadata was asked for."""
    mount = mounts(server.endpoint_url)
    assert mount.warnings == ""
    assert sorted(os.listdir(mount.path)) == [
        "README.txt",
        "allensdk",
        "ecephys_sessions",
        "manifests",
        "project_metadata",
    ]
    kinds = [request.kind for request in server.requests]
    assert (sorted(kinds[:2]), kinds[2:]) == (["list_objects", "list_versions"], ["get_object"])


@pytest.mark.root
def test_the_kernel_reads_further_ahead(mounts: Mounts, server: FakeS3Server) -> None:
    """Where the daemon may say so, the kernel reads 512 KiB ahead in files of the mount; 128 KiB are its own."""
    entry = find_mount(mounts(server.endpoint_url).path)
    assert entry is not None
    assert Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb").read_text() == "512\n"


def test_daemon_leaves_the_terminal(mounts: Mounts, server: FakeS3Server) -> None:
    """The daemon has a session of its own, stands in /, and holds no descriptor of the caller's terminal."""
    pid = mounts(server.endpoint_url).status()["pid"]
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1)} == {"/dev/null"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--bucket", "no-such-bucket"], "NoSuchBucket"),
        (["--project", "other"], "check --bucket and --project"),
        (["--endpoint-url", "http://127.0.0.1:1"], "127.0.0.1:1"),
        (["-o", "dataset_version=9.9.9"], "there are: 0.1.0"),
    ],
)
def test_failure_before_the_mount(
    server: FakeS3Server, mounts: Mounts, tmp_path: Path, options: list[str], text: str
) -> None:
    """What keeps a mount from being made is reported on the caller's terminal, with exit status 1."""
    done = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, *options, mounted_on(tmp_path))
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.ismount(tmp_path / "mnt")


def mounted_on(directory: Path) -> Path:
    """An empty folder to mount on."""
    path = directory / "mnt"
    path.mkdir()
    return path


def test_unusable_mount_points(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A missing folder, a file, a folder in or around the cache, and a mounted one are refused with status 1."""
    mount = mounts(server.endpoint_url)
    (tmp_path / "file").touch()
    (tmp_path / "cache" / "within").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    for path, text in {
        tmp_path / "missing" / "mnt": "no such folder",
        tmp_path / "file": "not a folder",
        tmp_path / "cache" / "within": "must not lie in one another",
        tmp_path / "link" / "within": "must not lie in one another",
        tmp_path: "must not lie in one another",
        mount.path: "already a vbnfs mount",
    }.items():
        done = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, path)
        assert (done.returncode, text in done.stderr) == (1, True), done.stderr


def test_unusable_cache_and_log(server: FakeS3Server, mounts: Mounts, tmp_path: Path) -> None:
    """A cache folder or log file that cannot be made is named, with the option that chooses another."""
    (tmp_path / "file").touch()
    mountpoint = mounted_on(tmp_path)
    for option in ("--cache-dir", "--log-file"):
        done = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, option, tmp_path / "file" / "x", mountpoint)
        assert done.returncode == 1
        assert option in done.stderr


@pytest.mark.usefixtures("engine")
def test_foreground(server: FakeS3Server, mounts: Mounts, tmp_path: Path) -> None:
    """--foreground stays, logs to standard error, and SIGINT unmounts and ends with status 0."""
    mountpoint = mounted_on(tmp_path)
    command = [
        sys.executable,
        "-m",
        "vbnfs",
        "mount",
        "--foreground",
        "--endpoint-url",
        server.endpoint_url,
        mountpoint,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        try:
            lines = iter(daemon.stderr.readline, "")  # why the kernel reads no files may come first
            assert any("event='mounted'" in line for line in lines)
            assert "README.txt" in os.listdir(mountpoint)
        finally:
            daemon.send_signal(signal.SIGINT)
        _, text = daemon.communicate(timeout=30)
    assert daemon.returncode == 0
    assert "event='unmounted'" in text
    assert not os.path.ismount(mountpoint)


def test_mount_point_that_is_a_link(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A link to a folder will do as a mount point, for unmounting too."""
    real, link = mounted_on(tmp_path), tmp_path / "link"
    link.symlink_to(real)
    assert run_vbnfs("mount", "--endpoint-url", server.endpoint_url, link).returncode == 0
    assert os.path.ismount(real)
    assert json.loads(run_vbnfs("status", "--json", link).stdout)["mountpoint"] == str(real)
    assert run_vbnfs("umount", link).returncode == 0
    assert not os.path.ismount(real)


def test_cache_that_others_can_write_is_refused(server: FakeS3Server, mounts: Mounts, tmp_path: Path) -> None:
    """Somebody else who can write the cache could plant blocks: it is refused, with the remedy."""
    cache, mountpoint = tmp_path / "shared", mounted_on(tmp_path)
    cache.mkdir()
    cache.chmod(0o777)
    command = ["mount", "--endpoint-url", server.endpoint_url, "--cache-dir", cache, mountpoint]
    done = run_vbnfs(*command)
    assert (done.returncode, "chmod 700" in done.stderr) == (1, True)
    cache.chmod(0o700)
    assert run_vbnfs(*command).returncode == 0
    assert run_vbnfs("umount", mountpoint).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_mounting(server: FakeS3Server, mounts: Mounts, tmp_path: Path, number: int) -> None:
    """A command that is interrupted while it makes a mount makes none, also none later."""
    mountpoint, gate = mounted_on(tmp_path), threading.Event()
    server.behaviours.append(for_kind("list_objects", held(gate)))
    # A script that is run in the background ignores Ctrl-C, and so does everything that it starts.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "vbnfs", "mount"]
    command += ["--endpoint-url", server.endpoint_url, str(mountpoint)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as caller:
        server.wait_until(lambda s: s.count("list_objects") == 1)
        children = children_of(caller.pid)
        caller.send_signal(number)
        caller.communicate(timeout=30)
    assert caller.returncode != 0
    gate.set()
    until(lambda: not any(is_running(child) for child in children))
    assert not os.path.ismount(mountpoint)


def test_log_file_has_one_line_for_each_event(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """The log has JSON lines for mounting, whole files that were verified and unmounting, and none for reads."""
    mount = mounts(server.endpoint_url)
    for _ in range(3):
        (mount.path / SESSION).read_bytes()
    until(lambda: os.getxattr(mount.path / SESSION, "user.vbnfs.verified")[:3] != b"no:")
    mount.umount()
    lines = [json.loads(line) for line in (tmp_path / "vbnfs.log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["mounted", "file verified", "unmounted"]
    assert [line["mountpoint"] for line in lines[::2]] == [str(mount.path)] * 2


# Ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.usefixtures("engine")
def test_signals_unmount(mounts: Mounts, server: FakeS3Server, number: int) -> None:
    """These signals unmount cleanly: nothing is left in mountinfo, and the process is gone."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests were started by: it is inherited
    mount = mounts(server.endpoint_url)
    signal.signal(signal.SIGHUP, before)
    process = os.pidfd_open(pid := mount.status()["pid"])
    os.kill(pid, number)
    until(lambda: find_mount(mount.path) is None)
    until(lambda: not is_running(pid))
    os.close(process)


@pytest.mark.usefixtures("engine")
def test_sigterm_does_not_wait_for_the_network(mounts: Mounts, server: FakeS3Server) -> None:
    """With a read in flight that S3 does not answer, SIGTERM ends the mount all the same, soon."""
    mount = mounts(server.endpoint_url, "--io-timeout", "600")
    gate = threading.Event()
    server.behaviours.append(for_kind("get_range", held(gate)))
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(errno_of(mount.path / SESSION)))
    reader.start()
    server.wait_until(lambda s: s.count("get_range") >= 1)
    pid = mount.status()["pid"]
    os.kill(pid, signal.SIGTERM)
    until(lambda: not is_running(pid))
    reader.join()
    assert found[0] in {errno.ECONNABORTED, errno.ENOTCONN}
    gate.set()


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.usefixtures("engine")
def test_umount_returns_when_the_daemon_has_ended(mounts: Mounts, server: FakeS3Server) -> None:
    """After `vbnfs umount` neither mount nor daemon nor control socket is there."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    mount.umount()
    assert not os.path.ismount(mount.path)
    assert not is_running(pid)
    assert run_vbnfs("umount", mount.path).returncode == 1


@pytest.mark.usefixtures("engine")
def test_busy_mount(mounts: Mounts, server: FakeS3Server) -> None:
    """`vbnfs umount` of a mount that is in use fails and names the program, and --lazy, which works."""
    mount = mounts(server.endpoint_url)
    with (mount.path / "README.txt").open("rb") as file:
        done = run_vbnfs("umount", mount.path)
        assert done.returncode == 1
        ours = f"(process {os.getpid()}): end them, or leave the folder there, or add --lazy"
        assert "is busy; used by " in done.stderr
        assert ours in done.stderr
        assert run_vbnfs("umount", "--lazy", mount.path).returncode == 0
        assert not os.path.ismount(mount.path)
        assert file.read().startswith(b"visual-behavior-neuropixels")


@pytest.mark.usefixtures("engine")
def test_dead_mount_is_cleared(mounts: Mounts, server: FakeS3Server) -> None:
    """After SIGKILL of the daemon `vbnfs status` says what to do, and `vbnfs mount` mounts anew."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid))
    done = run_vbnfs("status", mount.path)
    assert done.returncode == 1
    assert "vbnfs mount" in done.stderr
    assert mount.mount().path.joinpath(SESSION).read_bytes() == SESSION_BYTES[:]


@pytest.mark.usefixtures("engine")
def test_daemon_ends_with_the_kernel_s_umount(mounts: Mounts, server: FakeS3Server) -> None:
    """umount(8) or fusermount3 ends the daemon, too."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    subprocess.run(["umount", mount.path] if os.geteuid() == 0 else ["fusermount3", "-u", mount.path], check=True)
    until(lambda: not is_running(pid))


# While mounted


@pytest.mark.usefixtures("engine")
def test_new_version_turns_up(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """A version that is published while mounted gets a folder; what stands at the top does not change."""
    mount = mounts(server.endpoint_url, "--refresh", "1")
    folder = mount.path / "manifests" / "v0.2.0"
    assert "v0.2.0" not in os.listdir(folder.parent)  # which the kernel keeps
    assert not folder.exists()
    inode = (mount.path / SESSION).stat().st_ino
    server.forget_requests()
    dataset.publish("0.2.0", {**FILES, "new/file.bin": b"new"})
    until(lambda: "v0.2.0" in os.listdir(folder.parent))
    assert (folder / "new/file.bin").read_bytes() == b"new"
    for cache in (f"{dataset.project}-0.2.0", f"static/v0.2.0/{dataset.project}"):
        assert (mount.path / "allensdk" / cache / "new/file.bin").samefile(folder / "new/file.bin")
    assert (folder / SESSION).stat().st_ino == inode == (mount.path / SESSION).stat().st_ino
    assert "0.2.0" in (mount.path / "README.txt").read_text()
    assert not (mount.path / "new").exists()
    assert os.readlink(mount.path / "manifests" / "latest") == "v0.1.0"
    assert server.count("get_object") == server.count("list_versions") == 1


def test_bad_manifest_refuses_itself_alone(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """Versions with hostile manifests are named in a warning and in the status; the others are mounted."""
    good = dataset.entry(SESSION, SESSION_BYTES)
    dataset.publish_entries("0.2.0", {"evil": {**good, "url": good["url"].replace(SESSION, "../../etc/passwd")}})
    dataset.publish_entries("0.3.0", {"evil": {**good, "url": "https://evil.example/a/b"}})
    dataset.publish_bytes("0.4.0", b'{"a":' * 50_000)
    dataset.publish_bytes("0.5.0", Pattern(100_000_000))
    mount = mounts(server.endpoint_url)
    assert sorted(os.listdir(mount.path / "manifests")) == ["latest", "v0.1.0"]
    refused = mount.status()["refused"]
    for version, text in {"0.2.0": "'..'", "0.3.0": "evil.example", "0.4.0": "deep", "0.5.0": "100,000,000"}.items():
        assert any(version in reason and text in reason for reason in refused), refused
        assert f"v{version}.json" in mount.warnings
    assert (mount.path / SESSION).read_bytes() == SESSION_BYTES[:]


def test_a_size_that_no_object_has(mounts: Mounts, server: FakeS3Server) -> None:
    """A listing with an absurd size is not believed; sizes then come from HEAD, and nothing freezes."""
    server.behaviours.append(for_kind("list_versions", lambda _, honest: replace(
        honest, body=honest.body.replace(b"<Size>3000001</Size>", b"<Size>4000000000000000000</Size>"))))  # fmt: skip
    mount = mounts(server.endpoint_url)
    assert (mount.path / SESSION).stat().st_size == len(SESSION_BYTES)
    assert server.count("head") == 1


def test_usage_of_another_mount_shows(mounts: Mounts, server: FakeS3Server) -> None:
    """What another mount caches shows in this one's df and du, within half a minute."""
    first = mounts(server.endpoint_url, name="a")
    (first.path / SESSION).read_bytes()
    first.umount()
    second = mounts(server.endpoint_url, name="b")
    until(lambda: (second.path / SESSION).stat().st_blocks == -(-len(SESSION_BYTES) // 512))
    until(lambda: os.statvfs(second.path).f_bfree < os.statvfs(second.path).f_blocks)


def test_kept_file_of_another_make(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A kept file that is whole but says something else counts as absent: it is fetched again."""
    mount = mounts(server.endpoint_url)
    mount.umount()
    for name in ("index", "attributes"):
        [path] = (tmp_path / "cache").rglob(name)
        write_stored(path, b'{"format": 99}')
    mount.mount()
    assert (mount.path / SESSION).stat().st_size == len(SESSION_BYTES)


def test_bucket_that_cannot_be_listed_for_versions(
    mounts: Mounts, server: FakeS3Server, dataset: FakeDataset
) -> None:
    """Where ListObjectVersions is refused, sizes come from HEAD, for the folder that is listed, once only."""
    others = {f"other/{number}.bin": b"x" * number for number in range(20)}
    dataset.publish("0.2.0", {**FILES, **others})
    server.behaviours.append(for_kind("list_versions", LISTING_REFUSED))
    mount = mounts(server.endpoint_url)
    assert server.count("head") == 0
    listed = {entry.name: entry.stat().st_size for entry in os.scandir(mount.path / "other")}
    assert listed == {f"{number}.bin": number for number in range(20)}
    assert server.count("head") == 20
    assert (mount.path / SESSION).stat().st_size == len(SESSION_BYTES)
    assert server.count("head") == 21
    mount.umount()
    mount.mount()
    assert {entry.name: entry.stat().st_size for entry in os.scandir(mount.path / "other")} == listed
    assert server.count("head") == 21


@pytest.mark.usefixtures("engine")
def test_names_wait_for_no_sizes(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """Where sizes have to be asked for, `ls` lists a large folder at once; `ls -l` goes on as they come."""
    count = 300
    dataset.publish("0.2.0", {**FILES, **{f"other/{number:03}.bin": b"x" * number for number in range(count)}})
    gate = threading.Event()
    server.behaviours.append(for_kind("list_versions", LISTING_REFUSED))
    server.behaviours.append(for_kind("head", held(gate)))
    mount = mounts(server.endpoint_url, "--io-timeout", "60")
    try:
        names = [f"{number:03}.bin" for number in range(count)]
        with os.scandir(mount.path / "other") as entries:  # names and kinds
            assert sorted(entry.name for entry in entries if entry.is_file()) == names
        until(lambda: server.count("head") >= 10)  # asked for before anybody looks at a file
        assert not (mount.path / "other" / "none.bin").exists()
    finally:
        gate.set()
    assert [(mount.path / "other" / name).stat().st_size for name in names] == list(range(count))
    assert server.count("head") == count


@pytest.mark.usefixtures("engine")
def test_object_whose_size_is_not_listed(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """An object that S3 has lost stays in its folder's listing; looking at it fails, its neighbours are fine."""
    dataset.publish("0.2.0", {**FILES, "other/a": b"a", "other/b": b"b"})
    lost = dataset.entry("other/a", b"a")
    dataset.store.remove(f"{dataset.project}/other/a", lost["version_id"])
    mount = mounts(server.endpoint_url)
    assert sorted(os.listdir(mount.path / "other")) == ["a", "b"]
    with pytest.raises(OSError) as caught:  # noqa: PT011
        (mount.path / "other" / "a").stat()
    assert caught.value.errno == errno.ESTALE
    assert (mount.path / "other" / "b").read_bytes() == b"b"
    assert "other/a" in mount.status()["last_error"]


@pytest.mark.usefixtures("engine")
def test_size_that_lies(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """A listed size that the object does not have makes reading fail with ESTALE; the reason names the object."""
    server.behaviours.append(for_kind("list_versions", lambda _, honest: replace(
        honest, body=honest.body.replace(b"<Size>3000001</Size>", b"<Size>3000002</Size>"))))  # fmt: skip
    mount = mounts(server.endpoint_url)
    assert errno_of(mount.path / SESSION) == errno.ESTALE
    assert SESSION in mount.status()["last_error"]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "NoSuchVersion", errno.ESTALE),
        (403, "AccessDenied", errno.EACCES),
        (200, "", errno.EIO),
        (416, "InvalidRange", errno.ESTALE),
    ],
)
@pytest.mark.usefixtures("engine")
def test_errno_of_failed_reads(mounts: Mounts, server: FakeS3Server, status: int, code: str, expected: int) -> None:
    """A version that is gone, or shorter than listed, is ESTALE, a forbidden one EACCES, an ignored Range EIO."""
    mount = mounts(server.endpoint_url)
    body = f"<Error><Code>{code}</Code></Error>".encode()
    server.behaviours.append(
        for_kind(
            "get_range", lambda _, honest: replace(honest, status=status, body=body).with_headers(Content_Range="")
        )
    )
    assert errno_of(mount.path / SESSION) == expected
    assert mount.status()["metrics"]["failed_answers"] >= 1
    server.behaviours.clear()
    until(lambda: is_read_well(mount.path / SESSION))


@pytest.mark.parametrize("fault", [always(error(503, "SlowDown")), cut_after(100)], ids=["503", "torn body"])
def test_a_transport_fault_that_lasts(mounts: Mounts, server: FakeS3Server, fault: Behaviour) -> None:
    """Retries that all fail end as EIO within --io-timeout; later the file is read well."""
    mount = mounts(server.endpoint_url, "--io-timeout", str(limit_seconds := 3))
    server.behaviours.append(for_kind("get_range", fault))
    began = time.monotonic()
    assert errno_of(mount.path / SESSION) == errno.EIO
    assert time.monotonic() - began < limit_seconds + BUSY_SECONDS
    assert server.count("get_range") > 2
    server.behaviours.clear()
    until(lambda: is_read_well(mount.path / SESSION))


@pytest.mark.usefixtures("engine")
def test_read_has_a_deadline(mounts: Mounts, server: FakeS3Server) -> None:
    """A server that never answers: the read fails with ETIMEDOUT after --io-timeout, stat and df go on meanwhile."""
    mount = mounts(server.endpoint_url, "--io-timeout", "1.5")
    gate = threading.Event()
    server.behaviours.append(for_kind("get_range", held(gate)))
    reader = threading.Thread(target=lambda: found.append(errno_of(mount.path / SESSION)), daemon=True)
    found: list[int] = []
    began = time.monotonic()
    reader.start()
    server.wait_until(lambda s: s.count("get_range") >= 1)
    assert (mount.path / SESSION).stat().st_size == len(SESSION_BYTES)
    assert os.statvfs(mount.path).f_blocks > 0
    assert found == []
    reader.join(60)
    assert found == [errno.ETIMEDOUT]
    assert 1.5 <= time.monotonic() - began < 1.5 + BUSY_SECONDS
    gate.set()


def test_wrong_version_id_is_never_believed(mounts: Mounts, server: FakeS3Server) -> None:
    """A reply with another version id than was asked for is ESTALE, whatever its bytes."""
    mount = mounts(server.endpoint_url)
    server.behaviours.append(for_kind("get_range", header(x_amz_version_id="another")))
    assert errno_of(mount.path / SESSION) == errno.ESTALE
    assert "another" in mount.status()["last_error"]


def test_two_mounts_share_a_cache(mounts: Mounts, server: FakeS3Server) -> None:
    """What one mount has fetched, another one on the same cache directory reads without a request."""
    first, second = mounts(server.endpoint_url, name="a"), mounts(server.endpoint_url, name="b")
    assert (first.path / SESSION).read_bytes() == SESSION_BYTES[:]
    assert os.getxattr(first.path / SESSION, "user.vbnfs.cached") == str(len(SESSION_BYTES)).encode()
    server.forget_requests()
    assert (second.path / SESSION).read_bytes() == SESSION_BYTES[:]
    assert server.count() == 0


@pytest.mark.usefixtures("engine")
def test_other_users(mounts: Mounts, server: FakeS3Server) -> None:
    """Another user may read the mount with --allow-other only."""
    if os.geteuid() != 0:  # only root can become another user: then the kernel's word has to do
        mount = mounts(server.endpoint_url)
        [line] = [line for line in Path("/proc/mounts").read_text().splitlines() if str(mount.path) in line]
        assert "allow_other" not in line
        return
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        for options, status in (([], 1), (["--allow-other"], 0)):
            mount = mounts(server.endpoint_url, *options, name=directory + "/mnt")
            read = ["cat", mount.path / SESSION]
            assert subprocess.run(read, user=65534, capture_output=True, check=False).returncode == status
            mount.umount()


def test_another_dataset(mounts: Mounts) -> None:
    """Another bucket and project of the same format mount by options alone, from the environment, too."""
    other = FakeDataset(bucket="other-data", project="other-project")
    other.publish("1.1.0", {"some_folder/file.bin": b"data", "project_metadata/table.csv": b"a\n"})
    with FakeS3Server(other.store) as server:
        mount = mounts(server.endpoint_url, "--bucket", "other-data", "-o", "project=other-project,nodev")
        assert (mount.path / "some_folder" / "file.bin").read_bytes() == b"data"
        status = mount.status()
        assert (status["bucket"], status["project"]) == ("other-data", "other-project")
        assert status["dataset"] is None
        mount.umount()


def test_the_sister_dataset(mounts: Mounts) -> None:
    """Visual Behavior Ophys mounts by its name alone: bucket and project follow from it."""
    sister = FakeDataset(bucket="visual-behavior-ophys-data", project="visual-behavior-ophys")
    sister.publish("1.1.0", {"behavior_sessions/behavior_session_1.nwb": b"data"})
    with FakeS3Server(sister.store) as server:
        mount = mounts(server.endpoint_url, "--dataset", "visual-behavior-ophys")
        assert (mount.path / "behavior_sessions" / "behavior_session_1.nwb").read_bytes() == b"data"
        assert mount.status()["dataset"] == "visual-behavior-ophys"
        mount.umount()


def test_a_named_dataset(mounts: Mounts, tmp_path: Path) -> None:
    """A dataset mounts by its name, from a table of the TOML file; `status` shows the name."""
    other = FakeDataset(bucket="other-data", project="other-project")
    other.publish("1.1.0", {"some_folder/file.bin": b"data"})
    with FakeS3Server(other.store) as server:
        table = f'bucket = "other-data"\nproject = "other-project"\nendpoint_url = "{server.endpoint_url}"\n'
        (tmp_path / "mine.toml").write_text(f"[datasets.mine]\n{table}")
        mount = mounts(server.endpoint_url, "--config", str(tmp_path / "mine.toml"), "-o", "dataset=mine")
        assert (mount.path / "some_folder" / "file.bin").read_bytes() == b"data"
        assert mount.status()["dataset"] == "mine"
        assert "  dataset     mine\n" in run_vbnfs("status", mount.path).stdout
        mount.umount()


@pytest.mark.usefixtures("engine")
def test_the_daemon_has_a_name(mounts: Mounts, server: FakeS3Server) -> None:
    """Its process is named vbnfs, also where Python was started with `-m vbnfs`."""
    mount = mounts(server.endpoint_url)
    assert Path(f"/proc/{mount.status()['pid']}/comm").read_text() == "vbnfs\n"


def test_status_and_versions_for_people(mounts: Mounts, server: FakeS3Server) -> None:
    """`status` and `versions` print what is mounted and what there is; the bytes cached show."""
    server_url = server.endpoint_url
    mount = mounts(server_url)
    (mount.path / SESSION).read_bytes()
    assert str(mount.path) in run_vbnfs("status").stdout
    shown = run_vbnfs("status", mount.path)
    assert str(mount.path) in shown.stdout
    assert f"s3://{BUCKET}/" in shown.stdout
    assert shown.stdout.splitlines()[1].startswith("  works, mounted ")
    assert documented_names("For programs: vbnfs status --json") == mount.status().keys()
    rows = json.loads(run_vbnfs("versions", "--json", "--endpoint-url", server_url).stdout)
    [row] = rows
    assert (row["version"], row["files"], row["is_newest"]) == ("0.1.0", 2, True)
    assert row["size_bytes"] == sum(map(len, FILES.values()))
    server.stop()
    offline = run_vbnfs("versions", "--json", "--endpoint-url", server_url)
    assert json.loads(offline.stdout) == rows
    assert "cannot be reached" in offline.stderr
    assert "Traceback" not in offline.stderr
    table = run_vbnfs("versions", "--endpoint-url", server_url).stdout
    assert "0.1.0" in table
    assert "newest" in table
    mount.umount()
    assert str(mount.path) not in run_vbnfs("status").stdout
    assert run_vbnfs("status", mount.path).returncode == 1
