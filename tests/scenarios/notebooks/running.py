"""A notebook of docs/notebooks, run as its reader runs it: cell by cell, in a kernel, in an empty folder."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.code_blocks import ROOT, SESSION_ID

FOLDER: Final = ROOT / "docs" / "notebooks"
_PROGRAM: Final = Path(__file__).with_name("program.py")
_MOST_SECONDS: Final = 600


class Notebook:
    """A notebook of the repository, about the session with this id. `run` fills in what its cells answer."""

    def __init__(self, name: str, session_id: int) -> None:
        self._session_id = str(session_id)
        text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
        self._notebook = json.loads(text.replace(SESSION_ID, self._session_id))

    def insert(self, code: str, *, before: str | None = None) -> None:
        """Add a cell of the test's own: before the one with a tag, or at the end."""
        cells = self._notebook["cells"]
        places = [at for at, cell in enumerate(cells) if before in cell["metadata"].get("tags", ())]
        source = code.replace(SESSION_ID, self._session_id)
        new = {"cell_type": "code", "id": f"of-the-test-{len(cells)}", "metadata": {}, "source": source}
        cells.insert(places[0] if places else len(cells), {**new, "outputs": [], "execution_count": None})

    def run(self, folder: Path, *, python: Path, env: Mapping[str, str], go_offline: Callable[[], object]) -> None:
        """Run it in a new kernel of this Python. It must succeed; a cell that fails ends it."""
        folder.mkdir()
        path = folder / "notebook.ipynb"
        path.write_text(json.dumps(self._notebook))
        command = [sys.executable, str(_PROGRAM), str(path), str(python)]
        errors = (folder / "errors").open("w+")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        with errors, subprocess.Popen(command, text=True, env=env, cwd=folder, **pipes) as program:
            assert program.stdout is not None
            if program.stdout.readline():
                go_offline()
            program.communicate("\n", timeout=_MOST_SECONDS)
            assert program.returncode == 0, (folder / "errors").read_text()
        self._notebook = json.loads(path.read_text())

    @property
    def answers(self) -> list[str]:
        """What each cell of code that answers anything prints and returns, in order; pictures not."""
        found = ["".join(_texts(cell)) for cell in self._code()]
        return [text for text in found if text]

    @property
    def pictures(self) -> list[str]:
        """The figures, as PNG in base64."""
        outputs = [output for cell in self._code() for output in cell["outputs"]]
        return [one["data"]["image/png"] for one in outputs if "image/png" in one.get("data", {})]

    @property
    def errors(self) -> str:
        """All that was written to standard error."""
        outputs = [output for cell in self._code() for output in cell["outputs"]]
        return "".join("".join(one["text"]) for one in outputs if one.get("name") == "stderr")

    def _code(self) -> Iterator[dict[str, Any]]:
        return (cell for cell in self._notebook["cells"] if cell["cell_type"] == "code")


def _texts(cell: dict[str, Any]) -> Iterator[str]:
    for output in cell["outputs"]:
        if output.get("name") == "stdout":
            yield "".join(output["text"])
        elif output["output_type"] == "execute_result":
            yield "".join(output["data"]["text/plain"])
