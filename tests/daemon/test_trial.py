"""A trial mount: what came of it, and that nothing of it stays."""

import tempfile
from pathlib import Path

import pytest

from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.daemon import trial
from vbnfs.daemon.fuse_options import fuse_options
from vbnfs.daemon.trial import SOURCE, Trial, try_mount
from vbnfs.errors import MountError
from vbnfs.host.mountinfo import list_mounts

CONFIG = load_config(command_line={}, environ={})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_in(folder: Path) -> list[object]:
    """What is still mounted there, or still there."""
    return [*(entry for entry in list_mounts() if folder in entry.mountpoint.parents), *folder.iterdir()]


async def test_a_trial(folder: Path) -> None:
    """A mount is made and taken away, with its folder."""
    found = await try_mount(CONFIG)
    assert found.refusal is None
    assert left_in(folder) == []


async def test_a_trial_that_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system does not take is said in its words, and so is a folder that cannot be made."""
    refused = load_config(command_line={}, mount_options=("context=system_u:object_r:x_t:s0",), environ={})
    found = await try_mount(refused)
    assert "context=system_u" in str(found.refusal)
    assert left_in(folder) == []
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "none"))
    found = await try_mount(CONFIG)
    assert "a folder for a trial cannot be made: No such file or directory" in str(found.refusal)


async def test_a_kernel_that_cannot_be_served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the kernel's first request is why no mount can be made; nothing stays then, either."""

    def refuse(*_arguments: object, **_more: object) -> object:
        raise MountError("FUSE 7.23 or later is needed")

    monkeypatch.setattr("vbnfs.fuse.server.agree", refuse)
    found = await try_mount(CONFIG)
    assert str(found.refusal) == "FUSE 7.23 or later is needed"
    assert left_in(folder) == []


async def test_a_kernel_that_asks_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not begin, it is not waited for long."""
    monkeypatch.setattr(trial, "_AGREE_SECONDS", 0.0)
    monkeypatch.setattr("vbnfs.fuse.server.Server.serve", _sleep)
    assert await try_mount(CONFIG) == Trial(no_passthrough="the kernel does not answer")
    assert left_in(folder) == []


async def _sleep(_server: object) -> None:
    return


@pytest.mark.parametrize("source", [None, SOURCE])
def test_its_name_in_lists_of_mounts(source: str | None) -> None:
    """A trial has a name of its own there, whatever the settings give."""
    for more in ((), ("fsname=mine",)):
        config: Config = load_config(command_line={"allow_other": "yes"}, mount_options=more, environ={})
        options = fuse_options(config, source=source)
        [name] = [option for option in options if option.startswith("fsname=")]
        usual = more[0] if more else "fsname=s3:visual-behavior-neuropixels"
        assert name == (usual if source is None else f"fsname={SOURCE}")
        assert options[-1] == "allow_other"
