"""Reads docs/recipes.md, and runs what it says as its reader would."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import environ
from pathlib import Path

DOCUMENT = Path(__file__).parents[3] / "docs" / "recipes.md"
SESSION_ID = "1044385384"  # what the document writes for a session
NOT_RUN = {"matlab", "julia"}
NOT_RUN_HERE = "*Not run here"

_RUN_BY = {
    "sh": ("sh", "-eu", "recipe.sh"),
    "python": (sys.executable, "recipe.py"),
    "r": ("Rscript", "--vanilla", "recipe.R"),
    "octave": ("octave", "--norc", "--no-gui", "--quiet", "recipe.m"),
}
_SAVED_ONLY = {"c", "java"}  # the section says under which name; what follows compiles and runs it


@dataclass
class Section:
    """A section of the document: its title, its text, and its blocks of code as (language, code)."""

    title: str
    text: str
    blocks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def languages(self) -> set[str]:
        """The languages of its blocks."""
        return {language for language, _ in self.blocks}


def sections(document: Path = DOCUMENT) -> Iterator[Section]:
    """A document's sections in order; what stands before the first belongs to none."""
    for part in document.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        yield Section(title, text, re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run_section(
    section: Section, *, home: Path, session_id: str, folder: Path, programs: Path | None = None
) -> list[str]:
    """Run a section's blocks in order in `folder`, and return what each that runs prints.

    `home` is the home folder, in which `~/vbn` is a mount. `programs` is the folder of another environment's programs
    and Python. A block that fails, or complains, is an AssertionError.
    """
    names = iter(re.findall(r"\b[Aa]s\s+`(\w+\.\w+)`", section.text))
    printed = []
    for language, code in section.blocks:
        code = code.replace(SESSION_ID, session_id)  # noqa: PLW2901 - the same code, of another session
        if language in _SAVED_ONLY:
            (folder / next(names)).write_text(code)
            continue
        command = _RUN_BY[language]
        if programs and language == "python":
            command = (str(programs / "python"), *command[1:])
        (folder / command[-1]).write_text(code)
        is_noisy = language == "octave" or "import matplotlib" in code
        printed.append(run_as_user(*command, home=home, folder=folder, is_noisy=is_noisy, programs=programs))
    return printed


def run_as_user(
    *command: str | Path, home: Path, folder: Path, is_noisy: bool = False, programs: Path | None = None
) -> str:
    """Run a program in `folder` with the environment of somebody who has just logged in; return what it prints.

    `programs` is a folder that comes first in PATH.

    It must succeed, and say nothing on standard error unless it `is_noisy`: Octave always speaks of a display, and
    matplotlib of its fonts where it makes a list of them.
    """
    path = environ["PATH"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={"HOME": str(home), "PATH": f"{programs}:{path}" if programs else path, "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert is_noisy or done.stderr == "", f"{command}: {done.stderr}"
    return done.stdout
