"""`vbnfs settings`: each setting, its value and where it came from."""

import json
import re
from pathlib import Path

import pytest

from tests.fixtures_mount import run_vbnfs
from vbnfs.config.settings import SETTINGS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A TOML file with a setting and a dataset."""
    path = tmp_path / "vbnfs.toml"
    path.write_text('memory_limit = "64M"\n[datasets.mirror]\nbucket = "mirrored"\nendpoint_url = "http://mirror"\n')
    return path


def test_the_table(file: Path) -> None:
    """Every setting has a line with its value, as one would type it, and the kind of its source; datasets follow."""
    env = {"VBNFS_CACHE_SIZE": "500G", "VBNFS_OFFLINE": "1"}
    done = run_vbnfs("settings", "--dataset", "mirror", "--io-timeout", "5", "--config", file, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, datasets = done.stdout.splitlines()
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines)
    assert list(rows) == ["setting", *(setting.name for setting in SETTINGS)]
    assert {name: re.split(r"\s{2,}", row) for name, row in rows.items()} | {
        "dataset": ["mirror", "command line"],
        "bucket": ["mirrored", "dataset mirror"],
        "region": ["us-west-2", "dataset mirror"],
        "endpoint_url": ["http://mirror", "dataset mirror"],
        "ca_bundle": ["the system's, or SSL_CERT_FILE", "default"],
        "cache_size": ["500.0 GiB", "environment"],
        "memory_limit": ["64.0 MiB", f"file {file}"],
        "io_timeout": ["5", "command line"],
        "offline": ["yes", "environment"],
        "foreground": ["no", "default"],
        "mountpoint": ["-", "default"],
    } == {name: re.split(r"\s{2,}", row) for name, row in rows.items()}
    assert datasets == "datasets: mirror, visual-behavior-neuropixels, visual-behavior-ophys"


def test_json(file: Path) -> None:
    """As JSON a value is a number where it is one, and its source has a kind and a name."""
    done = run_vbnfs("settings", "--json", "--config", file, "--offline", env={"VBNFS_DATASET": "mirror"})
    answer = json.loads(done.stdout)
    assert answer["datasets"] == ["mirror", "visual-behavior-neuropixels", "visual-behavior-ophys"]
    values = answer["settings"]
    assert values.keys() == {setting.name for setting in SETTINGS}
    assert values["dataset"] == {"value": "mirror", "from": "environment", "name": "VBNFS_DATASET"}
    assert values["bucket"] == {"value": "mirrored", "from": "dataset", "name": "mirror"}
    assert values["memory_limit"] == {"value": 64 << 20, "from": "file", "name": str(file)}
    assert values["offline"] == {"value": True, "from": "command line", "name": "--offline"}
    assert values["io_timeout"] == {"value": 30.0, "from": "default", "name": None}
    assert values["cache_size"] == {"value": None, "from": "default", "name": None}


def test_it_asks_nobody(tmp_path: Path) -> None:
    """It only reads settings: no server, no cache, no folder need be there."""
    arguments = ["--endpoint-url", "http://127.0.0.1:1", "--cache-dir", tmp_path / "none", "--mountpoint", "/none"]
    done = run_vbnfs("settings", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "none").exists()


def test_names_cannot_drive_the_terminal(tmp_path: Path) -> None:
    """Control characters in a path are shown as escapes."""
    done = run_vbnfs("settings", "--cache-dir", f"{tmp_path}/\x1b[2J")
    assert r"\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout
