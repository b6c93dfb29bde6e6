"""What docs/mounting.md shows can be typed as it stands."""

import re
import subprocess
from pathlib import Path

import click
import pytest

from vbnfs.cli.main import cli
from vbnfs.cli.mount_helper import parse_arguments, settings_for
from vbnfs.config.mount_options import (
    _IGNORED_OPTIONS,
    _NUMBERS_OF_LIBFUSE,
    _PASSED_OPTIONS,
    _PASSED_WITH_VALUE,
    _REFUSED,
    parse_mount_options,
)
from vbnfs.config.sources import load_config
from vbnfs.errors import UsageError

DOCUMENT = (Path(__file__).parents[2] / "docs" / "mounting.md").read_text()
FSTAB = re.findall(r"^(\S+) (/\S+) vbnfs (\S+) 0 0$", DOCUMENT, re.MULTILINE)
MOUNTS = re.findall(r"^mount -t vbnfs (\S+) (\S+) -o (\S+)$", DOCUMENT, re.MULTILINE)
TOMLS = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
OPTIONS = re.findall(r"^\| (`.*`) \| (done|no effect|refused) \|", DOCUMENT, re.MULTILINE)
COMMANDS = re.findall(r"^vbnfs (\S+)(.*)$", DOCUMENT, re.MULTILINE)


def test_the_document_has_examples() -> None:
    """The examples are found."""
    assert [len(found) for found in (FSTAB, MOUNTS, TOMLS, COMMANDS)] == [3, 1, 1, 5]


@pytest.mark.parametrize(("source", "folder", "options"), FSTAB + MOUNTS)
def test_lines(source: str, folder: str, options: str) -> None:
    """Lines of fstab, and those for mount(8), are understood."""
    assert settings_for(parse_arguments([source, folder, "-o", options])).project == source.removeprefix("s3:")


@pytest.mark.parametrize("text", TOMLS)
def test_files(tmp_path: Path, text: str) -> None:
    """A configuration file is understood, and names its folder."""
    (tmp_path / "x.toml").write_text(text)
    assert load_config(command_line={}, config_file=tmp_path / "x.toml").mountpoint == Path("/mnt/vbn")


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_commands(name: str, arguments: str) -> None:
    """A command of vbnfs exists, with its options."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, arguments.split())


def test_the_table_of_options() -> None:
    """Each option does what its row says, and each one that is known has a row."""
    words = set[str]()
    assert len(OPTIONS) > 10
    for options, what in OPTIONS:
        for option in re.findall(r"`([^`]+)`", options):
            words.add(option.partition("=")[0].partition(".")[0])
            if what == "refused":
                with pytest.raises(UsageError, match=rf"-o {re.escape(option)}: (?!no such)"):
                    parse_mount_options((option,))
            else:
                settings, passed = parse_mount_options((option,))
                assert (settings, bool(passed)) == ({}, what == "done"), option
    known = _PASSED_OPTIONS | _PASSED_WITH_VALUE | _IGNORED_OPTIONS | _NUMBERS_OF_LIBFUSE | _REFUSED.keys()
    assert {word.partition("=")[0] for word in known} <= words


def test_the_line_for_updatedb(tmp_path: Path) -> None:
    """The line that leaves mounts out adds them to PRUNEFS, behind what is there, once."""
    [line] = re.findall(r"^sudo (sed .*) /etc/updatedb.conf$", DOCUMENT, re.MULTILINE)
    config = tmp_path / "updatedb.conf"
    config.write_text('PRUNEPATHS="/tmp"\n# PRUNEFS is a list\nPRUNEFS="NFS fuse.sshfs"\n')
    for _ in range(2):
        subprocess.run(f"{line} {config}", shell=True, check=True)
        assert config.read_text() == 'PRUNEPATHS="/tmp"\n# PRUNEFS is a list\nPRUNEFS="NFS fuse.sshfs fuse.vbnfs"\n'
