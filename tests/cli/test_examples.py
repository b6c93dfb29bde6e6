"""Examples of commands: each command has some, and each can be typed."""

import shlex

import click
import pytest
from click.testing import CliRunner

from vbnfs.cli.examples import EXAMPLES
from vbnfs.cli.main import cli

COMMANDS = sorted(cli.commands)
LINES = [
    (words, line) for words, examples in EXAMPLES.items() for line, _ in examples if words.split()[0] in COMMANDS
]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_examples(name: str) -> None:
    """The help of each command has examples (`EXAMPLES` in cli/examples.py), and then the exit statuses."""
    assert EXAMPLES.get(name), f"give {name} a row in vbnfs/cli/examples.py"
    shown = CliRunner().invoke(cli, [name, "--help"], prog_name="vbnfs", terminal_width=80).output
    examples, _, end = shown.partition("Examples:\n")[2].partition("Exit status: 0")
    assert [line for line, _ in EXAMPLES[name] if line not in examples] == []
    assert end


@pytest.mark.parametrize(("words", "line"), LINES)
def test_an_example_can_be_typed(words: str, line: str) -> None:
    """An example is of its command, and has the options and arguments that this takes."""
    typed = shlex.split(line.removeprefix("sudo "))
    assert typed[: 1 + len(words.split())] == ["vbnfs", *words.split()[:1], *words.split()[1:]]
    command: click.Command | None = cli
    rest = typed[1:]
    while isinstance(command, click.Group) and rest:
        command = command.get_command(click.Context(command), rest.pop(0))
    assert command is not None
    command.make_context(None, rest, parent=click.Context(cli, **cli.context_settings))
