"""The page of all commands, made of their own help, with links to the pages that use each (pure)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from docsite.pages import prose, target_of, title_of
from vbnfs.cli.main import cli

_SHAPE: Final = {"terminal_width": 80, "max_content_width": 80}
_INTRODUCTION: Final = """# Commands

Every command, as `vbnfs COMMAND --help` explains it. Below each stand the pages that use it.
"""


def commands_page(documents: Mapping[str, str]) -> str:
    """The page. `documents` are the texts of the site's documents, by name."""
    program, *commands = _contexts(click.Context(cli, info_name="vbnfs", **{**cli.context_settings, **_SHAPE}))
    parts = [_INTRODUCTION, _help(program)]
    for context in commands:
        parts += [f"## {context.command_path}\n", _help(context), _users(context.command_path, documents)]
    return "\n".join(parts)


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """A command, and below it all that it consists of, each in the context in which it is typed."""
    yield context
    if isinstance(group := context.command, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if command is not None and not command.hidden:
                settings = {**cli.context_settings, **_SHAPE}
                yield from _contexts(click.Context(command, info_name=name, parent=context, **settings))


def _help(context: click.Context) -> str:
    text = context.get_help().rstrip().replace(str(Path(__file__).parents[1]), "...")  # as documents write it
    return f"```text\n{text}\n```\n"


def _users(line: str, documents: Mapping[str, str]) -> str:
    """The pages that have a command in a block of code, as links."""
    pattern = re.compile(rf"^(?:\$ )?(?:sudo )?{re.escape(line)}(?: |$)")
    used = [
        f"[{title_of(text)}]({target_of(name)})"
        for name, text in documents.items()
        if any(not is_prose and pattern.match(code) for code, is_prose in prose(text))
    ]
    return f"Used in: {', '.join(used)}.\n" if used else ""
