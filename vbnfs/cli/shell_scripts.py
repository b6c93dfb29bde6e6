"""What bash, zsh and fish read to have lines completed: click's scripts, for this program.

The installer and the build of a wheel write them into files. They import no more than this.
"""

from collections.abc import Mapping
from typing import Final

import click
from click import shell_completion
from click.shell_completion import ShellComplete

from vbnfs.config.environment import COMPLETING

SHELLS: Final[Mapping[str, type[ShellComplete]]] = {
    "bash": shell_completion.BashComplete,
    "zsh": shell_completion.ZshComplete,
    "fish": shell_completion.FishComplete,
}


def scripts() -> dict[str, str]:
    """The script of each shell, by its name."""
    return {shell: script(shell) for shell in SHELLS}


def script(shell: str) -> str:
    """What a shell reads once, to complete with this program from then on."""
    kind = SHELLS[shell](click.Group(), {}, "vbnfs", COMPLETING)
    return (kind.source_template % kind.source_vars()).strip() + "\n"
