"""The units of site caches as systemd reads them; no systemd has to run for that."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.fixtures_mount import run_vbnfs
from tests.scenarios.system.test_units import analyze
from vbnfs.cli.site import DIRECTORY

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("directory", [DIRECTORY, "/srv"])
def test_systemd_finds_no_fault(tmp_path: Path, directory: str) -> None:
    """`systemd-analyze verify` has nothing to say of any, and `security` finds an exposure of 4.0 at the most."""
    nginx = shutil.which("nginx")
    assert nginx is not None
    kept = ["--directory", directory]
    programs = [*kept, "--nginx", nginx, "--vbnfs", Path(sys.executable).with_name("vbnfs")]
    assert run_vbnfs("site-cache", "units", tmp_path / "nginx", *programs).returncode == 0
    assert run_vbnfs("site-cache", "trafficserver", tmp_path / "trafficserver", *kept).returncode == 0
    for folder, names in (
        ("nginx", ("-metrics.service", ".service", "-reload.service", "-reload.timer")),
        ("trafficserver", (".service",)),
    ):
        units = [tmp_path / folder / f"vbnfs-site-cache{name}" for name in names]
        done = analyze("verify", *units)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
        for unit in units[: 2 if folder == "nginx" else 1]:
            done = analyze("security", "--offline=true", "--threshold=40", "--no-pager", unit)
            assert done.returncode == 0, done.stdout.splitlines()[-1:]
