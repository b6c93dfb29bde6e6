"""Ctrl-C before a program has begun. Where it comes is decided by an import that sends it, and not by time."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from vbnfs import interrupts

ENTRIES = {
    "vbnfs": "from vbnfs.__main__ import main",
    "mount.vbnfs": "from vbnfs.__main__ import mount_helper as main",
}


def run(
    program: str,
    interrupting: str,
    directory: Path,
    *arguments: str,
    before: str = "pass",
    number: str = "SIGINT",
    start: Sequence[str] = (),
) -> tuple[int, str, str]:
    """A program's status and what it wrote, when its first import of the library `interrupting` sends a signal."""
    folder = directory / "first-on-the-path"
    folder.mkdir()
    (folder / f"{interrupting}.py").write_text(f"import os, signal\nos.kill(os.getpid(), signal.{number})\n")
    script = f"import sys; sys.argv[1:] = {list(arguments)}; {before}; {ENTRIES[program]}; main()"
    done = subprocess.run(
        [*start, sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("program", "status", "library"),
    [("vbnfs", 130, "click"), ("vbnfs", 130, "platformdirs"), ("mount.vbnfs", 8, "platformdirs")],
)
def test_while_it_imports(tmp_path: Path, program: str, status: int, library: str) -> None:
    """A program that is interrupted while it imports ends with its own status, one line and no traceback."""
    assert run(program, library, tmp_path) == (status, "", f"{program}: interrupted\n")


def test_while_a_command_imports(tmp_path: Path) -> None:
    """A command that is interrupted while it imports what it needs ends in the same way."""
    status, out, err = run("vbnfs", "trio", tmp_path, "versions", "--offline")
    assert (status, out, err.strip()) == (130, "", "vbnfs: interrupted")


@pytest.mark.root
@pytest.mark.parametrize("library", ["click", "trio"])
def test_the_first_process_of_a_container(tmp_path: Path, library: str) -> None:
    """SIGTERM ends the first process of a container as Ctrl-C does, where the kernel would drop it otherwise."""
    first = ("unshare", "--pid", "--fork", "--kill-child")
    status, out, err = run("vbnfs", library, tmp_path, "versions", "--offline", number="SIGTERM", start=first)
    assert (status, out, err.strip()) == (130, "", "vbnfs: interrupted")


def test_a_program_that_ignores_interrupts(tmp_path: Path) -> None:
    """Where SIGINT is ignored, as for jobs of a script, it stays ignored."""
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    status, _, err = run("vbnfs", "click", tmp_path, before=ignore)
    assert status == 1
    assert "has no attribute" in err  # the library that sent it is none: the program went on


def test_after_the_start() -> None:
    """When a program has begun, SIGINT raises KeyboardInterrupt again."""
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, lambda *_: None)
        interrupts.raise_again()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_sigterm_as_ctrl_c() -> None:
    """When it is asked for, SIGTERM raises what Ctrl-C does; where that is ignored, it ends the process as ever."""
    before, old = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.at_sigterm_too():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is before
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupts.at_sigterm_too():
            assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGINT, old)
