"""script/setup says what it does in a few lines. What it calls is silent unless it fails, and is then shown whole."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Programs that say much, and end with the status in a variable that bears their name.
PROGRAM = """#!/bin/sh
echo "{name} says much: $*"
echo "{name} complains: $*" >&2
exit "${{{name}_status:-0}}"
"""
# A Python whose environments have such a pip.
PYTHON = """#!/bin/sh
case "$1 ${2:-}" in
"-m venv")
    for folder; do :; done
    mkdir -p "$folder/bin"
    cp "$0" "$folder/bin/python"
    cp "$(dirname "$0")/pip" "$folder/bin/pip"
    ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that was never set up, on a machine that has nothing."""
    clone, programs = tmp_path / "clone", tmp_path / "bin"
    (clone / "script").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(ROOT / "script" / "setup", clone / "script")
    shutil.copy(ROOT / "pyproject.toml", clone)
    texts = {"apt-get": PROGRAM.format(name="apt"), "pip": PROGRAM.format(name="pip"), "python": PYTHON}
    for name, text in {**texts, "dpkg-query": "#!/bin/sh\n", "sudo": '#!/bin/sh\nexec "$@"\n'}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return clone


def set_up(clone: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    programs = clone.parent / "bin"
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "VBNFS_PYTHON": str(programs / "python")}
    command = [str(clone / "script" / "setup"), "docs"]
    return subprocess.run(command, env={**env, **variables}, capture_output=True, text=True, check=False)


def test_installing_is_quiet(clone: Path) -> None:
    """Two lines say what is installed and made; the second time there is one less to make."""
    done = set_up(clone)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "vbnfs: installing fuse3 python3 python3-venv ca-certificates",
        "vbnfs: making .venv (a minute or two)",
    ]
    assert set_up(clone).stdout.splitlines() == ["vbnfs: installing fuse3 python3 python3-venv ca-certificates"]


@pytest.mark.parametrize(("program", "first"), [("apt", "apt says much: update"), ("pip", "pip says much: install")])
def test_what_fails_is_shown_whole(clone: Path, program: str, first: str) -> None:
    """Where a program fails, the setup fails, and all that the program said stands on standard error."""
    done = set_up(clone, **{f"{program}_status": "100"})
    assert done.returncode == 100
    assert done.stderr.startswith(first)
    assert f"{program} complains: " in done.stderr
    assert not (clone / ".venv" / "installed-docs").exists()
