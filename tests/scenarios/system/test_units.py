"""The units as systemd reads them; no systemd has to run for that."""

import subprocess
from pathlib import Path

import pytest

from tests.fixtures_mount import run_vbnfs

SYSTEM_UNITS = ("vbnfs@.service", "vbnfs-clean.service", "vbnfs-clean.timer")
USER_UNITS = (*SYSTEM_UNITS, "vbnfs-web.service")
# Any of these gives a unit a mount namespace of its own, in which its mount would stay: systemd.exec(5).
HIDING = (
    *("ProtectSystem", "ProtectHome", "ProtectProc", "ProtectKernelTunables", "ProtectKernelModules"),
    *("ProtectKernelLogs", "ProtectControlGroups", "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateIPC"),
    *("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths", "TemporaryFileSystem", "DynamicUser"),
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The folder of the system's units, as `vbnfs install-units` makes it."""
    assert run_vbnfs("install-units", "--root", tmp_path).returncode == 0
    assert run_vbnfs("install-units", "--user", "--root", tmp_path).returncode == 0
    return tmp_path / "etc" / "systemd" / "system"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Without manual pages, a small system has no mount.fuse3(8) that Documentation= names.
        ["systemd-analyze", "--man=no", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", SYSTEM_UNITS)
def test_systemd_finds_no_fault(units: Path, name: str) -> None:
    """`systemd-analyze verify` has nothing to say; it ends with 0 even for a key that it does not know."""
    done = analyze("verify", units / name)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_systemd_would_find_a_fault(units: Path) -> None:
    """An unknown key is reported: the test above can fail."""
    unit = units / "vbnfs@.service"
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDogSec"))
    assert "WatchDogSec" in analyze("verify", unit).stderr


@pytest.mark.parametrize("name", USER_UNITS)
def test_the_user_s_units(units: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a user are read without a fault, too."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    done = analyze("--user", "verify", units.parent / "user" / name)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_a_user_s_caches_are_cleaned_together(units: Path) -> None:
    """One command for all configurations: only so is it known which of them share a cache, and its size."""
    unit = (units.parent / "user" / "vbnfs-clean.service").read_text()
    commands = [line.partition(" ")[2] for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert commands == ["clean --config-folder %E/vbnfs"]


@pytest.mark.parametrize("name", ["vbnfs@.service", "vbnfs-clean.service"])
def test_exposure(units: Path, name: str) -> None:
    """`systemd-analyze security` finds an exposure of 4.0 at the most."""
    done = analyze("security", "--offline=true", "--threshold=40", "--no-pager", units / name)
    assert done.returncode == 0, done.stdout.splitlines()[-1:]
    assert "Overall exposure level" in done.stdout


def test_nothing_hides_the_mount(units: Path) -> None:
    """No key of the unit that mounts gives it a mount namespace of its own."""
    keys = {line.partition("=")[0] for line in (units / "vbnfs@.service").read_text().splitlines()}
    assert keys & set(HIDING) == set()
    assert "NoNewPrivileges" in keys
