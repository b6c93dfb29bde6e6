"""AllenSDK as a test drives it: unmodified, in a process and an environment of its own (`script/setup allensdk`)."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
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

cache_dir = sys.argv[1]
"""


def python() -> Path:
    """AllenSDK's Python; the test is skipped where there is none."""
    if not _PYTHON.exists():
        pytest.skip("no .venv-allensdk: script/setup allensdk makes it where there is Python 3.11")
    return _PYTHON


def start(script: str, cache_dir: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a script; `answered` waits for it."""
    env: Mapping[str, str] = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", **environment}
    command = [str(python()), "-c", _PRELUDE + script, str(cache_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def answered(process: subprocess.Popen[str]) -> Any:
    """What a script answers; it must succeed."""
    out, err = process.communicate(timeout=_TIMEOUT_SECONDS)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def ask(script: str, cache_dir: Path, **environment: str) -> Any:
    """Run a script to its end."""
    return answered(start(script, cache_dir, **environment))


def forget_last_used(mount: Mount) -> Path:
    """Make AllenSDK begin anew on this mount, and return its cache_dir."""
    cache = mount.path / "allensdk"
    Path(os.readlink(cache / "_manifest_last_used.txt")).unlink(missing_ok=True)
    return cache
