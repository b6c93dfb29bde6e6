"""Programs of this machine, put into a root folder of another system."""

import os
import re
import shutil
import subprocess
from pathlib import Path


def copy_program(program: str, root: Path) -> None:
    """Copy a program to its place below a root folder, with what it links to and is not there."""
    linked = re.findall(r"/\S+", subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout)
    for path in (program, *linked):
        copy = root / path[1:]
        if not os.path.lexists(copy):  # else it may be a link that leads to this machine's own
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(path).resolve(), copy)
