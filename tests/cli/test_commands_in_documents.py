"""The commands that README and docs/ name can be typed: each exists, with the options that stand there."""

import re
import shlex

import click
import pytest

from tests.code_blocks import blocks
from tests.test_documents import ALL, ROOT
from vbnfs.cli.main import cli
from vbnfs.cli.mount_helper import parse_arguments, settings_for

ADMINISTRATION = (ROOT / "docs" / "administration.md").read_text(encoding="utf-8")
# Up to a comment, a pipe, a redirection or an ellipsis; in double quotes they are text.
COMMAND = re.compile(r"""((?:"[^"]*"|[^"])*?)(?: +#|\\?[|;&<>]| *\.\.\.| --help|$)""")
MOUNTS = re.findall(r"^mount -t vbnfs (\S+) (\S+) -o (\S+)$", ADMINISTRATION, re.MULTILINE)


def commands_in(document: str) -> list[str]:
    """What stands behind `vbnfs` in lines of code, and in code within lines; without comments, pipes and ellipses."""
    text = (ROOT / document).read_text(encoding="utf-8")
    code = "\n".join(block.code for block in blocks(text) if block.language in {"", "sh"})
    lines = re.findall(r"^(?:\$ )?(?:sudo )?vbnfs ((?!mount_).*)$", code, re.MULTILINE)
    inline = re.findall(r"(?<!`)`(?:sudo )?vbnfs ([^`]+)`", text)
    found = [match[1].strip() for one in (*lines, *inline) if (match := COMMAND.match(one))]
    return sorted({one for one in found if re.match(r"[a-z]", one)})


NAMED = [(document, command) for document in ALL if "journal" not in document for command in commands_in(document)]


def test_commands_are_named() -> None:
    """Commands are found."""
    assert len(NAMED) > 100
    assert len(MOUNTS) > 3


@pytest.mark.parametrize(("document", "line"), NAMED)
def test_a_command_can_be_typed(document: str, line: str) -> None:
    """A command exists, with the options that a document gives it."""
    command: click.Command | None = cli
    words = shlex.split(line.replace("[", "").replace("]", ""))
    while isinstance(command, click.Group) and words:
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None, document
    if words and words != ["--config-folder"]:  # which is named without its value
        command.make_context(None, words, parent=click.Context(cli, **cli.context_settings))


@pytest.mark.parametrize(("source", "folder", "options"), MOUNTS)
def test_a_mount_can_be_typed(source: str, folder: str, options: str) -> None:
    """The administrator's lines for mount(8) are understood."""
    assert settings_for(parse_arguments([source, folder, "-o", options])).source == source
