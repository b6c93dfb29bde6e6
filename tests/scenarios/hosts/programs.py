"""The command vbnfs of this Python, as a program that has a path."""

import shlex
import sys
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[3]
# In any folder, and with any environment.
SCRIPT: Final = f"""#!/bin/sh
PYTHONPATH={shlex.quote(str(_ROOT))} exec {shlex.quote(sys.executable)} -m vbnfs "$@"
"""


def vbnfs_program(folder: Path) -> str:
    """The path of a program in the folder that is this vbnfs."""
    program = folder / "programs" / "vbnfs"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SCRIPT)
    program.chmod(0o755)
    return str(program)
