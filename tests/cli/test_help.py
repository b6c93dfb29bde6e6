"""What `--help` shows on a terminal of 80 columns."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vbnfs.cli.main import cli
from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS

COMMANDS = sorted(name for name in cli.commands if not cli.commands[name].hidden)
_MOST_LINES = 32  # examples and exit statuses among them
_NOT_SETTINGS = {name for name in COMMANDS if name != "settings"}  # whose help is the list of all options


def help_of(*command: str) -> list[str]:
    """The lines of a command's help."""
    return CliRunner().invoke(cli, [*command, "--help"], prog_name="vbnfs", terminal_width=80).output.splitlines()


def options_of(name: str) -> list[click.Option]:
    return [option for option in cli.commands[name].params if isinstance(option, click.Option)]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_one_sentence(name: str) -> None:
    """The list of commands has the whole first sentence of each, which is also how the command's own help begins."""
    [line] = [line for line in help_of() if line.split()[:1] == [name]]
    sentence = line.split(maxsplit=1)[1]
    assert sentence.endswith(".")
    assert not sentence.endswith("...")
    assert help_of(name)[2].strip() == sentence


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    """Each option has a sentence, no line is wider than the terminal, and the exit statuses are listed."""
    assert all(option.help for option in options_of(name))
    lines = help_of(name)
    assert max(map(len, lines)) <= 80
    assert "Exit status: 0" in "\n".join(lines)
    assert str(Path.home()) not in "".join(lines)  # a path that is wrapped cannot be copied


@pytest.mark.parametrize("name", sorted(_NOT_SETTINGS))
def test_help_fits_a_screen(name: str) -> None:
    """The help of each command has few lines."""
    assert len(help_of(name)) <= _MOST_LINES


def test_the_list_of_commands_is_short() -> None:
    """The list of commands has a line for each, and few others."""
    assert len(help_of()) <= len(COMMANDS) + 8


def test_the_list_of_commands_ends_with_the_pages() -> None:
    """Its last line names the page to begin with, as a path that can be copied; helps name pages beside it."""
    [page] = re.findall(r"^  Documentation: (\S+), and the pages beside it\.$", help_of()[-1])
    assert Path(page).is_file()
    named = {match for name in COMMANDS for match in re.findall(r"docs/([\w-]+\.md)", " ".join(help_of(name)))}
    assert len(named) > 3
    assert [name for name in sorted(named) if not Path(page).with_name(name).is_file()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_the_way_to_the_settings(name: str) -> None:
    """The last line of each command's help points to the settings."""
    assert help_of(name)[-1] == "  'vbnfs settings' shows all settings, 'vbnfs settings --help' their options."


@pytest.mark.parametrize("name", COMMANDS)
def test_own_options_come_first(name: str) -> None:
    """A command's own options stand before the options of settings, of which other helps show a few at most."""
    shown = [option for option in options_of(name) if not option.hidden]
    are_settings = [option.name in SETTING_BY_NAME or option.name == "config_file" for option in shown]
    assert are_settings == sorted(are_settings)
    assert sum(are_settings) <= 7 or name == "settings"


def test_the_settings_are_listed_with_their_options() -> None:
    """The help of `vbnfs settings` has every setting's option, one after the other, and the file's."""
    words = [line.split()[0] for line in help_of("settings") if line.startswith("  --")]
    assert words == ["--json", *(setting.option for setting in SETTINGS), "--config"]


def test_settings_are_accepted_where_help_does_not_show_them() -> None:
    """The options of settings are options of the commands that use them, shown or not."""
    every = {setting.name for setting in SETTINGS} | {"config_file"}
    only_of_a_mount = {"fuse", "passthrough", "trust_cache", "hdf5", "index", "foreground", "allow_other", "refresh"}
    only_of_a_mount |= {"log_file", "log_level", "mountpoint", "status_folder", "record"}
    only_of_a_mount |= {"metrics_port", "metrics_file"}
    only_of_a_mount |= {"allow_root", "uid", "gid", "umask", "fmask", "dmask", "auto_unmount"}
    expected = {
        "mount": every - {"mountpoint"},
        "umount": {"config_file"},
        "versions": every - only_of_a_mount - {"dataset_version"},
        "diff": every - only_of_a_mount - {"dataset_version"},
        "urls": every - only_of_a_mount,
        **dict.fromkeys(("sessions", "probes", "units", "tables"), every - only_of_a_mount),
        "verify": every - only_of_a_mount - {"verify"},
        "prefetch": every - only_of_a_mount - {"verify"},
        "pin": every - only_of_a_mount - {"verify"},
        "unpin": every - only_of_a_mount - {"verify", "dataset_version"},
        "pins": every - only_of_a_mount - {"verify", "dataset_version"},
        "du": every - only_of_a_mount - {"verify"},
        "cite": every - only_of_a_mount - {"verify"},
        "export": every - only_of_a_mount - {"verify"},
        "tree": every - only_of_a_mount - {"verify"},
        "map": every - only_of_a_mount - {"verify"},
        "import": every - only_of_a_mount - {"verify", "dataset_version"},
        "clean": every - only_of_a_mount - {"verify", "dataset_version"},
        "limit-rate": {"cache_dir", "config_file"},
        "settings": every,
        "doctor": every,
        "web": every - only_of_a_mount,
    }
    for name in cli.commands:
        taken = {str(option.name) for option in options_of(name)} & every
        assert taken == expected.get(name, set()), name
