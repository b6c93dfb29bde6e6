"""Names of processes that no other process has, and whether one has ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vbnfs.host import process_names
from vbnfs.host.process_names import has_ended, name_of_this_process

PRINT_NAME = "from vbnfs.host.process_names import *; print(name_of_this_process(), flush=True); input()"


def test_a_process_and_its_end() -> None:
    """A process of this host runs, or has ended; its name is not ours."""
    command = [sys.executable, "-c", PRINT_NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert name != name_of_this_process()
        assert not has_ended(name)
        process.kill()
    assert has_ended(name)
    assert not has_ended(name_of_this_process())


def test_an_id_that_was_given_again() -> None:
    """A process of our id that began at another time is another one, and has ended."""
    assert has_ended(name_of_this_process() + "1")


@pytest.mark.parametrize("name", ["", "x", "host/boot/4026531836/1/2", "////", "a/b/c/d/e/f/g"])
def test_what_cannot_be_asked_about(name: str) -> None:
    """Of a process of another boot, host or namespace, or a name that is none, it is not known that it has ended."""
    assert not has_ended(name)


def test_where_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc a process has a name, and none is known to have ended."""
    monkeypatch.setattr(process_names, "_BOOT", tmp_path / "none")
    process_names._where_we_are.cache_clear()
    try:
        assert str(os.getpid()) in name_of_this_process().split("/")
        assert not has_ended(name_of_this_process() + "1")
    finally:
        process_names._where_we_are.cache_clear()
