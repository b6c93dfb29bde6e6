"""The manual pages: one for each command, with all of it, in roff that no formatter complains of."""

import subprocess
from pathlib import Path

import pytest

from vbnfs.cli.examples import EXAMPLES
from vbnfs.cli.main import cli
from vbnfs.cli.manual import pages
from vbnfs.config.settings import SETTINGS

PAGES = pages(cli)
COMMANDS = sorted(name for name in cli.commands if not cli.commands[name].hidden)


def plain(page: str) -> str:
    """A page's words as they are read."""
    escapes = {
        "\\-": "-",
        "\\(ti": "~",
        "\\(aq": "'",
        "\\(dq": '"',
        "\\(ha": "^",
        "\\(ga": "`",
        "\\&": "",
        "\\e": "\\",
    }
    for escape, text in escapes.items():
        page = page.replace(escape, text)
    return page


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_page(name: str) -> None:
    """A command's page has its sentence, each of its options and examples, and the exit statuses."""
    page, command = plain(PAGES[f"vbnfs-{name}.1"]), cli.commands[name]
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS", "SEE ALSO"):
        assert f".SH {title}\n" in page, title
    options = [option for param in command.params for option in param.opts if option.startswith("-")]
    assert [option for option in options if f".B {option}" not in page and f", {option}" not in page] == []
    assert [line for line, _ in EXAMPLES[name] if f".B {line}\n" not in page] == []


def test_the_first_page_has_the_commands() -> None:
    """vbnfs(1) lists all commands and the files; a page of a command that is hidden does not exist."""
    page = plain(PAGES["vbnfs.1"])
    assert [name for name in COMMANDS if f".B {name}\n" not in page] == []
    assert "~/.cache/vbnfs" in page
    assert "vbnfs-install-helper.1" not in PAGES


def test_the_helper_has_a_page() -> None:
    """mount.vbnfs(8) has every setting as a mount option, and mount(8)'s exit statuses."""
    page = plain(PAGES["mount.vbnfs.8"])
    assert [one.name for one in SETTINGS if f".B {one.name}" not in page] == []
    assert ".B 32\n" in page


@pytest.mark.slow
def test_formatters_do_not_complain(tmp_path: Path) -> None:
    """mandoc's lint and groff (by man-db) find nothing wrong in any page; man(1) shows the name."""
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    names = sorted(PAGES)
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    complaints = [line for line in lint.stdout.splitlines() if "missing date" not in line]  # pages are reproducible
    assert complaints == []
    for name in names:
        done = subprocess.run(
            ["man", "--warnings", "-l", f"./{name}"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), name
        assert name.rpartition(".")[0] in done.stdout
