"""A program that runs a notebook in a kernel, cell by cell: PROGRAM NOTEBOOK PYTHON, in the notebook's folder.

The notebook is rewritten with the outputs. Before the cell with the tag `offline` the program writes a line, and
waits for one.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

OFFLINE: Final = "offline"
_CELL_SECONDS: Final = 300


def kernel(python: str, folder: Path) -> AsyncKernelManager:
    """What starts a kernel of this Python; `folder` is for what says so."""
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (folder / "python3").mkdir(parents=True)
    (folder / "python3" / "kernel.json").write_text(json.dumps(spec))
    return AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)]))


def before(cell: Any, cell_index: int) -> None:
    """Called by the client before each cell."""
    if OFFLINE in cell.metadata.get("tags", ()):
        print(OFFLINE, flush=True)
        sys.stdin.readline()


def main(path: Path, python: str) -> None:
    """Run it. A cell that fails ends it, with its traceback."""
    notebook = nbformat.read(path, as_version=4)
    manager = kernel(python, path.with_suffix(".kernels"))
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, km=manager, timeout=_CELL_SECONDS, resources=resources, on_cell_execute=before)
    client.execute()
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2])
