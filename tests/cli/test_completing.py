"""Completion of command lines: what is offered, without network, and that the shells read it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from tests.cli.typing_shell import typed
from tests.fakes.dataset import serve
from tests.fixtures_mount import run_vbnfs
from tests.test_documents import ROOT
from vbnfs.cli import completing, known_names
from vbnfs.cli.main import cli
from vbnfs.cli.shell_scripts import SHELLS, script
from vbnfs.config.environment import COMPLETING

BIN = ROOT / ".venv" / "bin"
FILES = {"project_metadata/units.csv": b"unit_id\n1\n", "ecephys_sessions/ecephys_session_1044385384.nwb": b"x" * 9}


def offered(line: str) -> list[str]:
    """What is offered at the end of a line, with the kind before the name."""
    words = line.split(" ")
    env = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_VBNFS_COMPLETE": "bash_complete"}
    done = run_vbnfs(env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_commands_and_options() -> None:
    """Commands, the options of a command's help, and behind a letter all settings are offered."""
    assert offered("vbnfs mou") == ["plain,mount"]
    assert "plain,install-helper" not in offered("vbnfs install")
    assert offered("vbnfs index b") == ["plain,build"]
    assert "plain,--cache-also" not in offered("vbnfs mount --")
    assert offered("vbnfs mount --cache-a") == ["plain,--cache-also"]
    assert offered("vbnfs mount --log-level w") == ["plain,warning"]
    assert offered("vbnfs mount --log-file ") == ["file,"]
    assert offered("vbnfs mount --cache-dir ") == ["dir,"]
    assert offered("vbnfs mount --dataset visual-behavior-o") == ["plain,visual-behavior-ophys"]


def test_a_line_that_is_wrong() -> None:
    """What makes no sense is completed by nothing, without a word on standard error."""
    assert offered("vbnfs nonsense --x") == []
    assert offered("vbnfs mount --cache-size nonsense --dataset-version ") == []


def test_versions_paths_tables_and_pins_without_network(tmp_path: Path) -> None:
    """What the cache has of manifests and pins is offered: folder by folder, through those that are alone."""
    with serve({"0.1.0": FILES, "0.2.0": FILES}) as server:
        to_server = ("--endpoint-url", server.endpoint_url)
        assert run_vbnfs("pin", "paper", "project_metadata", *to_server).returncode == 0
        asked = len(server.requests)
        assert offered("vbnfs urls --dataset-version ") == ["plain,0.1.0", "plain,0.2.0"]
        assert offered("vbnfs diff 0.2") == ["plain,0.2.0"]
        assert offered("vbnfs verify 0.") == ["file,", "plain,0.1.0", "plain,0.2.0"]
        assert offered("vbnfs verify ec") == ["file,", "plain,ecephys_sessions/ecephys_session_1044385384.nwb"]
        assert "plain,project_metadata/" in offered("vbnfs verify ")
        assert "plain,units" in offered("vbnfs tables u")
        assert offered("vbnfs unpin p") == ["plain,paper"]
        assert offered("vbnfs prefetch --name p") == []
        assert len(server.requests) == asked
    assert offered("vbnfs verify /x") == ["file,"]


def test_no_slow_module_is_imported() -> None:
    """Completing imports neither pandas nor a client."""
    env = {**os.environ, "COMP_WORDS": "vbnfs verify 0.", "COMP_CWORD": "2", "_VBNFS_COMPLETE": "bash_complete"}
    command = [BIN / "python", "-X", "importtime", "-m", "vbnfs"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "vbnfs.cli.known_names" in imported
    assert imported & {"pandas", "httpx", "pycurl", "trio"} == set()


def test_bash_completes(tmp_path: Path) -> None:
    """A bash that is typed to completes a command, and then an option's value."""
    (tmp_path / "vbnfs").write_text(script("bash"))
    begin = f"source {tmp_path}/vbnfs"
    assert typed(["bash", "--norc", "--noprofile", "-i"], begin, "vbnfs umo\t", "vbnfs umount ", bin_folder=BIN)
    line = "vbnfs mount --dataset visual-behavior-o\t"
    assert typed(["bash", "--norc", "--noprofile", "-i"], begin, line, "visual-behavior-ophys ", bin_folder=BIN)


EVIL = "/mnt/$(touch pwned);touch pwned; 'x\\ *"
PROGRAM = """#!/bin/sh
if [ "$_VBNFS_COMPLETE" ]; then
    cat "$(dirname "$0")/offered"
else
    printf 'given %s %s\\n' "$#" "$2"
fi
"""


def test_bash_runs_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that bash completes is one word of the line, whatever characters are in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script").write_text(script("bash"))
    (tmp_path / "offered").write_text(f"dir,\nplain,{EVIL}\n")
    (tmp_path / "vbnfs").write_text(PROGRAM)
    (tmp_path / "vbnfs").chmod(0o755)
    bash, begin = ["bash", "--norc", "--noprofile", "-i"], f"source {tmp_path}/script"
    assert typed(bash, begin, "vbnfs umount /m\t\n", f"given 2 {EVIL}", bin_folder=tmp_path)
    (tmp_path / "offered").write_text(f"plain,{EVIL}\nplain,/mnt/my data\n")
    assert typed(bash, begin, "vbnfs umount '/m\t\n", "given 2 /mnt/my data", bin_folder=tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_names_that_cannot_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with control characters, or of bytes that are no text, is not offered."""
    names = ["/mnt/a\nplain,/mnt/b", "/mnt/\x1b[2J", "/mnt/\udcff", "/mnt/ä b"]
    monkeypatch.setattr(known_names, "mounts", lambda: names)
    completing.register(cli)
    kind = get_completion_class("bash")
    assert kind is not None
    items = kind(cli, {}, "vbnfs", COMPLETING).get_completions(["umount"], "/m")
    assert [item.value for item in items if item.type == "plain"] == ["/mnt/ä b"]


@pytest.mark.slow
def test_zsh_completes(tmp_path: Path) -> None:
    """A zsh that finds the file in `fpath` completes a command, and then an option's value."""
    (tmp_path / "_vbnfs").write_text(script("zsh"))
    begin = f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -d {tmp_path}/dump"
    assert typed(["zsh", "-f", "-i"], begin, "vbnfs umo\t", "vbnfs umount", bin_folder=BIN)
    line = "vbnfs mount --dataset visual-behavior-o\t"
    assert typed(["zsh", "-f", "-i"], begin, line, "visual-behavior-ophys", bin_folder=BIN)


@pytest.mark.slow
def test_fish_completes(tmp_path: Path) -> None:
    """A fish that has read the file completes a command, and an option's value."""
    assert shutil.which("fish")
    (tmp_path / "vbnfs.fish").write_text(script("fish"))
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for line, word in (("vbnfs umo", "umount"), ("vbnfs mount --dataset visual-behavior-o", "visual-behavior-ophys")):
        command = ["fish", "--no-config", "-c", f"source {tmp_path}/vbnfs.fish; complete -C '{line}'"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.stdout.split()[:1] == [word], done.stderr


@pytest.mark.slow
def test_fish_keeps_names_whole(tmp_path: Path) -> None:
    """A name with commas and blanks is one of its words."""
    (tmp_path / "offered").write_text(f"plain,/mnt/a, b,{EVIL}\n")
    (tmp_path / "vbnfs").write_text(PROGRAM)
    (tmp_path / "vbnfs").chmod(0o755)
    (tmp_path / "script").write_text(script("fish"))
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = ["fish", "--no-config", "-c", f"source {tmp_path}/script; complete -C 'vbnfs umount /m'"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == f"/mnt/a, b,{EVIL}\n"


def test_there_is_a_script_for_each_shell() -> None:
    """The three shells have a script that names the program."""
    assert sorted(SHELLS) == ["bash", "fish", "zsh"]
    assert all("_VBNFS_COMPLETE" in script(shell) for shell in SHELLS)
