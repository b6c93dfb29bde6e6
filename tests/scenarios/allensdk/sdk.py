"""AllenSDK as a test drives it: unmodified, in a process and an environment of its own (`script/setup allensdk`).

Importing it takes seconds. Each script runs in a process that is forked from one that has imported all.
"""

import atexit
import json
import os
import select
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from tests.fixtures_mount import Mount

_PYTHON: Final = Path(__file__).parents[3] / ".venv-allensdk" / "bin" / "python"
_TIMEOUT_SECONDS: Final = 300

# What each script begins with. It answers with one line of JSON: `answer(...)`.
_PRELUDE: Final = """
import inspect, json, sys, warnings
warnings.simplefilter("ignore")
from allensdk.brain_observatory.behavior.behavior_project_cache import (
    VisualBehaviorNeuropixelsProjectCache as Neuropixels, VisualBehaviorOphysProjectCache as Ophys)

def answer(value):
    print(json.dumps(value, default=lambda number: number.item()))

def heard(call, *arguments, **options):
    \"\"\"What a call returns, and the warnings of AllenSDK's cache while it runs.\"\"\"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call(*arguments, **options)
    return value, [w.category.__name__ for w in caught if "cloud_cache" in w.filename]

def read_everything(session):
    \"\"\"Reads what the session lists, and calls what needs no more to be known. Returns names and types.\"\"\"
    found = {}
    for name in session.list_data_attributes_and_methods():
        value = getattr(session, name)
        if name in ("get_lfp", "get_current_source_density"):
            value = value(session.probes.index[0])
        elif callable(value) and all(p.default is not p.empty for p in inspect.signature(value).parameters.values()):
            value = value()
        found[name] = type(value).__name__
    return found
"""
# Each line has a script, its cache_dir, variables, and files for the output; the answer is how its process ended.
_FORKING: Final = """
import os, traceback

def run(script, cache_dir, environment, *output):
    for descriptor, name in enumerate((os.devnull, *output)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    globals()["cache_dir"] = cache_dir
    try:
        exec(script, globals())
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(run(*json.loads(line)))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def python() -> Path:
    """AllenSDK's Python; the test is skipped where there is none."""
    if not _PYTHON.exists():
        pytest.skip("no .venv-allensdk: script/setup allensdk makes it where there is Python 3.11")
    return _PYTHON


def ask(script: str, cache_dir: Path, **environment: str) -> Any:
    """Run a script to its end, and return what it answers; it must succeed."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        variables = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", **environment}
        asked = [script, str(cache_dir), variables, str(out), str(err)]
        status = _forking_process(python()).run(json.dumps(asked))
        assert status == 0, err.read_text()
        return json.loads(out.read_text().splitlines()[-1])


class _ForkingProcess:
    """A process that has imported AllenSDK, and forks another one for each script."""

    def __init__(self, python: Path) -> None:
        command = [str(python), "-c", _PRELUDE + _FORKING]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, line: str) -> int:
        """Have a script run to its end. Returns its status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        ended, _, _ = select.select([self._process.stdout], [], [], _TIMEOUT_SECONDS)
        assert ended, "the script did not end"
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@cache
def _forking_process(python: Path) -> _ForkingProcess:
    process = _ForkingProcess(python)
    atexit.register(process.close)
    return process


def forget_last_used(mount: Mount) -> Path:
    """Make AllenSDK begin anew on this mount, and return its cache_dir."""
    cache = mount.path / "allensdk"
    Path(os.readlink(cache / "_manifest_last_used.txt")).unlink(missing_ok=True)
    return cache
