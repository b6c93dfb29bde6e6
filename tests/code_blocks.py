"""The blocks of code in a document, and running them as its reader would."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SESSION_ID = "1044385384"  # what the documents write for a session
_FENCE = re.compile(r"^```(\w*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language (empty if none is named), its lines, and the heading above it."""

    language: str
    code: str
    heading: str


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a document, in order."""
    lines, heading = iter(text.splitlines(keepends=True)), ""
    for line in lines:
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif match := _FENCE.match(line.rstrip("\n")):
            code = []
            for inner in lines:
                if inner.rstrip("\n") == "```":
                    break
                code.append(inner)
            yield Block(match[1], "".join(code), heading)


def blocks_of(document: str) -> list[Block]:
    """The blocks of a document of the repository, by its path."""
    return list(blocks((ROOT / document).read_text(encoding="utf-8")))


def reader(home: Path, **more: str) -> Mapping[str, str]:
    """The environment of a user with this home folder, who has installed vbnfs, and has no settings but `more`."""
    programs = home.parent / "programs"
    programs.mkdir(exist_ok=True)
    program = programs / "vbnfs"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m vbnfs "$@"\n')
    program.chmod(0o755)
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("VBNFS_", "XDG_"))}
    return {
        **settings,
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),  # the folder in which a block runs is another one
        "VBNFS_CACHE_RESERVE": "0",
        **more,
    }


def run(*command: str | Path, folder: Path, env: Mapping[str, str]) -> str:
    """Run a program in a folder; return what it prints. It must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
