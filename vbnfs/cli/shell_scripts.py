"""What bash, zsh and fish read to have lines completed: click's scripts, for this program; for bash one of ours.

zsh and fish quote what is put into a line, and bash does not: a folder's name could become a command there.
The installer and the build of a wheel write them into files. They import no more than this.
"""

from collections.abc import Mapping
from typing import Final

import click
from click import shell_completion
from click.shell_completion import ShellComplete

from vbnfs.config.environment import COMPLETING

_BASH: Final = r"""
%(complete_func)s() {
    local IFS=$'\n' response type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=, read -r type value; do
        if [[ $type == dir ]]; then
            compopt -o dirnames
        elif [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            if [[ ${COMP_WORDS[COMP_CWORD]} != [\'\"]* ]]; then
                printf -v value %%q "$value"
            # Within quotes it stands as it is.
            elif [[ $value == *[\'\"\\\$\`!]* ]]; then
                continue
            fi
            COMPREPLY+=("$value")
        fi
    done <<< "$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(shell_completion.BashComplete):
    """bash 4.4 and later: "Programmable Completion" of its manual."""

    source_template = _BASH


class Fish(shell_completion.FishComplete):
    """fish; a name that has a comma stays whole."""

    source_template = shell_completion.FishComplete.source_template.replace("string split", "string split --max 1")


SHELLS: Final[Mapping[str, type[ShellComplete]]] = {
    "bash": Bash,
    "zsh": shell_completion.ZshComplete,
    "fish": Fish,
}


def scripts() -> dict[str, str]:
    """The script of each shell, by its name."""
    return {shell: script(shell) for shell in SHELLS}


def script(shell: str) -> str:
    """What a shell reads once, to complete with this program from then on."""
    kind = SHELLS[shell](click.Group(), {}, "vbnfs", COMPLETING)
    return (kind.source_template % kind.source_vars()).strip() + "\n"
