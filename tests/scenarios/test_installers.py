"""The wheel as people install it: by pipx and by uv, into a home of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_documents import ROOT

INSTALLERS = ROOT / ".venv-installers" / "bin"
_SECONDS = 600

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    [found] = folder.glob("*.whl")
    return found


@dataclass
class Home:
    """A home in which nothing is."""

    path: Path

    def run(self, *command: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program as a user who has this home, and nothing else of the tests'."""
        ours = ("VBNFS_", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "PYTHON", "PIPX_")
        # How registries are reached is the machine's own matter.
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        path = f"{self.path}/.local/bin:{INSTALLERS}:/usr/bin:/bin:/usr/sbin:/sbin"
        env |= {"HOME": str(self.path), "PATH": path, "TMPDIR": str(self.path), "UV_SYSTEM_CERTS": "1"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=_SECONDS)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def of_vbnfs(self) -> list[str]:
        """What there is that has vbnfs in its name, but for what the installer caches, logs and locks."""
        found = (path.relative_to(self.path) for path in self.path.rglob("*vbnfs*") if path.name != ".vbnfs.lock")
        return sorted(str(path) for path in found if not {".cache", "log", "logs"} & {*path.parts})


@pytest.mark.parametrize(
    ("install", "uninstall"),
    [
        (["pipx", "install", "--python", sys.executable], ["pipx", "uninstall", "vbnfs"]),
        (["uv", "tool", "install", "--python", sys.executable], ["uv", "tool", "uninstall", "vbnfs"]),
    ],
    ids=["pipx", "uv"],
)
def test_the_wheel_is_installed(
    install: Sequence[str], uninstall: Sequence[str], wheel: Path, tmp_path: Path
) -> None:
    """Programs, pages and completions are there; `vbnfs uninstall` and the installer's own leave nothing behind."""
    home = Home(tmp_path)
    home.run(*install, wheel)
    assert home.run("vbnfs", "--version").stdout.startswith("vbnfs, version ")
    assert home.run("mount.vbnfs", status=1).stderr.startswith("mount.vbnfs: usage: ")
    assert home.run("vbnfs", "install", "--user").returncode == 0
    for name in ("man/man1/vbnfs-mount.1", "man/man8/mount.vbnfs.8", "zsh/site-functions/_vbnfs"):
        assert "vbnfs" in (tmp_path / ".local/share" / name).read_text(), name
    unit = (tmp_path / ".config/systemd/user/vbnfs@.service").read_text()
    [program] = {line.partition("=")[2].split()[0] for line in unit.splitlines() if line.startswith("ExecStart=")}
    assert home.run(program, "--version").stdout.startswith("vbnfs, version ")
    assert f"the program remains: {' '.join(uninstall)}\n" in home.run("vbnfs", "uninstall", "--user").stderr
    home.run(*uninstall)
    assert home.of_vbnfs() == []
