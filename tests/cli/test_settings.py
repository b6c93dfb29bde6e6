"""`vbnfs settings`: each setting, its value and where it came from."""

import json
import re
from pathlib import Path

import pytest

from tests.fixtures_mount import run_vbnfs
from vbnfs.config.datasets import all_datasets
from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS
from vbnfs.config.sources import load_config

DOCUMENT = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")


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
        "ca_bundle": ["the system's, or the variables'", "default"],
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


def test_a_variable_that_is_misspelled() -> None:
    """It is named with those that are near; other programs' variables are not."""
    env = {"VBNFS_CACHE_SIZ": "5G", "VBNFS_PYTHON": "/usr/bin/python3", "VBNFS_CONFIG": "/dev/null"}
    done = run_vbnfs("settings", env=env)
    [line] = done.stderr.splitlines()
    assert line.startswith("vbnfs: warning: VBNFS_CACHE_SIZ is the variable of no setting; near it: VBNFS_CACHE_SIZE")


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


# docs/settings.md


def test_the_document_has_every_setting() -> None:
    """The page's table has a row for each setting, in order, and one for each dataset with its place."""
    rows = re.findall(r"^\| `(\w+)` \|.*\|.*\|$", DOCUMENT, re.MULTILINE)
    assert [name for name in rows if name in SETTING_BY_NAME] == list(SETTING_BY_NAME)
    for dataset in all_datasets({}).values():
        bucket, project, region = (dataset.texts[name] for name in ("bucket", "project", "region"))
        assert re.search(rf"^\| `{dataset.name}` \|.*\| `{bucket}` \| `{project}` \| `{region}` \|$", DOCUMENT, re.M)


def test_the_document_shows_what_is_printed() -> None:
    """The page's example prints what it shows; columns may be narrower there."""
    command, *lines = re.findall(r"^```\n(\$ .*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)[0].splitlines()
    variable, program, *arguments = command.removeprefix("$ ").split()
    assert program == "vbnfs"
    name, _, text = variable.partition("=")
    printed = [" ".join(line.split()) for line in run_vbnfs(*arguments, env={name: text}).stdout.splitlines()]
    assert [line for line in lines if line != "..." and " ".join(line.split()) not in printed] == []


def test_the_documents_tables(tmp_path: Path) -> None:
    """The page's TOML file is understood, with both of its datasets."""
    [text] = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    (tmp_path / "x.toml").write_text(text)
    for name, bucket in (("institute", "visual-behavior-neuropixels-data"), ("our-recordings", "our-recordings")):
        config = load_config(command_line={"dataset": name}, config_file=tmp_path / "x.toml", environ={})
        assert (config.dataset, config.bucket, config.cache_size_bytes) == (name, bucket, 500 << 30)


@pytest.mark.parametrize(("options", "env"), [(("--no-hdf5",), {}), ((), {"VBNFS_HDF5": "no"})])
def test_a_flag_that_is_on_is_turned_off(options: tuple[str, ...], env: dict[str, str]) -> None:
    """A flag that holds by default has an option that turns it off."""
    done = run_vbnfs("settings", "--json", *options, env=env)
    assert json.loads(done.stdout)["settings"]["hdf5"]["value"] is False
