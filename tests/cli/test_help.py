"""What `--help` tells a stranger on a terminal of 80 columns."""

import click
import pytest
from click.testing import CliRunner

from vbnfs.cli.main import cli


def help_of(*command: str) -> list[str]:
    """The lines of a command's help."""
    return CliRunner().invoke(cli, [*command, "--help"], prog_name="vbnfs", terminal_width=80).output.splitlines()


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_command_is_told_in_one_sentence(name: str) -> None:
    """The list of commands has the whole first sentence of each, which is also how the command's own help begins."""
    [line] = [line for line in help_of() if line.split()[:1] == [name]]
    sentence = line.split(maxsplit=1)[1]
    assert sentence.endswith(".")
    assert not sentence.endswith("...")
    assert help_of(name)[2].strip() == sentence


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_is_explained(name: str) -> None:
    """Each option has a sentence, no line is wider than the terminal, and the exit status is told."""
    command = cli.commands[name]
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    lines = help_of(name)
    assert max(map(len, lines)) <= 80
    assert "Exit status: 0" in "\n".join(lines)
