"""The tour that `vbnfs demo` gives, on a tiny release."""

import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest

from tests.fixtures_mount import run_vbnfs
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.tour import run_demo
from vbnfs.host.mountinfo import find_mount

pytestmark = pytest.mark.usefixtures("mounts")


def test_tour_shows_everything(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tour lists, reads a table and a session, and reads a shared file twice with requests only once.

    In a folder of the user's own the release stays, and a second demo does not make it again, nor fetch it: its
    server has the same address, by which the cache knows it. Settings of the user's own play no part, in a file or
    in variables. Signals do afterwards what they did before.
    """
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    (tmp_path / "config" / "vbnfs").mkdir(parents=True)
    (tmp_path / "config" / "vbnfs" / "config.toml").write_text('bucket = "mine"\nproject = "mine"\noffline = true\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("VBNFS_DATASET", "mine")
    place = tmp_path / "demo"
    run_demo(place, keep=False, scale=ReleaseScale.tiny())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == signals
    output = capfd.readouterr().out
    for shown in ("$ vbnfs mount mnt", "v0.5.0", "ecephys_session_id", "spike_times", "Loaded: 4 dataset versions"):
        assert shown in output
    assert output.count("requests, 0.0 MiB fetched") == 1
    assert not os.path.ismount(place / "mnt")
    assert f"are still in {place}" in output
    *_, real = output.partition("Now the real dataset")
    assert re.match(r"\$ \S*vbnfs mount ~/vbn\n\n# Where to go next:\n", real.partition("\n")[2])
    pages = re.findall(r"^(\S+\.md) ", real, re.MULTILINE)
    assert [Path(page).name for page in pages] == ["quick-start.md", "concepts.md", "recipes.md", "from-allensdk.md"]
    assert all(Path(page).is_file() for page in pages)
    address = re.findall(r"--endpoint-url (http://127.0.0.1:\d+)", output)
    run_demo(place, keep=False)
    output = capfd.readouterr().out
    assert "the release of the last demo" in output
    assert re.findall(r"--endpoint-url (http://127.0.0.1:\d+)", output) == address
    assert "So far 0.0 MiB were fetched" in output
    assert "Loaded" not in output


@pytest.mark.parametrize(("times", "is_used"), [(1, True), (3, False)])
def test_keep_until_interrupted(tmp_path: Path, times: int, is_used: bool) -> None:
    """With --keep the mount stays until Ctrl-C; then nothing is left mounted, running, or in the temporary folder.

    More of them change nothing, nor does timeout(1), which ends the demo and everything in its group. A mount that a
    program uses is detached, and the demo has ended well all the same.
    """
    script = """
from dataclasses import replace
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.tour import run_demo
run_demo(None, keep=True, scale=replace(ReleaseScale.tiny(), ecephys_sessions=1, behavior_sessions=0))
"""
    env = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        assert "Ctrl-C" in lines[-1]
        assert [path.name for path in tmp_path.glob("vbnfs-demo-*/vbnfs.toml")] == ["vbnfs.toml"]
        settings = tomllib.loads("".join(line for line in lines if re.match(r"(endpoint_url|cache_dir) = ", line)))
        assert settings["endpoint_url"] in "".join(lines)
        assert (Path(settings["cache_dir"]) / "blocks-v2").is_dir()
        assert [path.is_file() for path in tmp_path.glob("vbnfs-demo-*/mnt/README.txt")] == [True]
        [mnt] = tmp_path.glob("vbnfs-demo-*/mnt")
        with subprocess.Popen(["cat"], cwd=mnt if is_used else tmp_path, stdin=subprocess.PIPE):
            for _ in range(times):
                os.killpg(demo.pid, signal.SIGINT)
            output, _ = demo.communicate(timeout=30)
    assert demo.returncode == 0
    assert find_mount(mnt) is None
    assert ("$ vbnfs umount --lazy mnt" in output) == is_used
    assert "temporary folder, and are gone" in output
    assert list(tmp_path.glob("vbnfs-demo-*")) == []


@pytest.mark.slow
def test_the_page_until_interrupted(tmp_path: Path) -> None:
    """With --web the page shows the demo's release and its mount until Ctrl-C; then nothing is left of either."""
    script = """
from dataclasses import replace
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.tour import run_demo
scale = replace(ReleaseScale.tiny(), ecephys_sessions=1, behavior_sessions=0)
run_demo(None, keep=False, is_page=True, scale=scale)
"""
    command, env = [sys.executable, "-c", script], os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True) as demo:
        assert demo.stdout is not None
        shown = (re.findall(r"The page is at (\S+)", line) for line in demo.stdout)
        address = next(found[0] for found in shown if found)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(), urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=60) as answer:
            text = answer.read().decode()
        [mnt] = tmp_path.glob("vbnfs-demo-*/mnt")
        assert f"Mounted at <code>{mnt}</code>" in text
        os.killpg(demo.pid, signal.SIGINT)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0
    assert find_mount(mnt) is None
    assert "temporary folder, and are gone" in output
    assert list(tmp_path.glob("vbnfs-demo-*")) == []


def test_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A folder that has other things in it is refused with status 1, and nothing is written there."""
    (tmp_path / "thesis.tex").touch()
    done = run_vbnfs("demo", tmp_path)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_missing_libraries_are_named(tmp_path: Path) -> None:
    """Without the demo's libraries the remedy is named, with status 1."""
    (tmp_path / "h5py.py").write_text("raise ModuleNotFoundError('no h5py', name='h5py')\n")
    done = run_vbnfs("demo", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "pip install 'vbnfs[demo]'" in done.stderr
