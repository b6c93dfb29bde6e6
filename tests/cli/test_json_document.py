"""docs/json.md has the names of each command's JSON: those that are printed, and no others."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import serve
from tests.fixtures_mount import run_vbnfs
from tests.test_documents import ROOT

PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
TABLE = "project_metadata/units.csv"
SESSIONS = {
    "project_metadata/ecephys_sessions.csv": b"ecephys_session_id,sex\n1044385384,F\n",
    "ecephys_sessions/ecephys_session_1044385384.nwb": b"x" * 9,
}
OLD = {**SESSIONS, TABLE: b"unit_id,snr\n1,2.5\n2,3.0\n"}
NEW = {**SESSIONS, TABLE: b"unit_id,snr\n1,2.5\n3,3.0\n"}
MAPS = {"tables[].changes.changed_columns"}  # whose names are data


def documented(heading: str) -> set[str]:
    """The names in the table of a section."""
    [section] = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


# What only `--dask` has: tests/cli/test_dask.py looks for it.
OF_DASK = {"workers", "caches", "nodes"} | {
    f"caches[].{name}" for name in ("cache", "workers", "whole_files", "room_bytes")
}


def names(value: Any, above: str = "") -> Iterator[str]:
    """The names of values that are no objects, each with those above it."""
    rows = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    if rows:
        for row in rows:
            yield from names(row, f"{above}[]" if above else "")
    elif isinstance(value, dict) and above not in MAPS:
        for name, inner in value.items():
            yield from names(inner, f"{above}.{name}" if above else name)
    else:
        yield above


@pytest.mark.slow
def test_the_names(tmp_path: Path) -> None:
    """Each section's command is run, and prints the names that stand there."""
    with serve({"0.1.0": OLD, "0.2.0": NEW}) as server:
        each = "vbnfs prefetch, pin, verify, import, export --json"
        for heading, command in (
            ("vbnfs versions --json", ["versions"]),
            ("vbnfs urls --json", ["urls"]),
            ("vbnfs diff --json", ["diff", "0.1.0", "0.2.0"]),
            ("vbnfs prefetch --dry-run --json", ["prefetch", "project_metadata", "--dry-run"]),
            (each, ["prefetch", "project_metadata"]),
            (each, ["pin", "paper", "project_metadata"]),
            (each, ["verify", "project_metadata"]),
            (each, ["export", str(tmp_path / "exported"), "--sessions", "all"]),
            (each, ["import", str(tmp_path / "exported")]),
            ("vbnfs pins --json", ["pins"]),
            ("vbnfs du --json", ["du"]),
            ("vbnfs tables --json", ["tables"]),
            ("vbnfs cite --json", ["cite", "--sessions", "all"]),
        ):
            done = run_vbnfs(*command, "--json", "--endpoint-url", server.endpoint_url)
            assert done.returncode == 0, done.stderr
            assert {*names(json.loads(done.stdout))} == documented(heading) - OF_DASK, command
    [gone] = json.loads(run_vbnfs("unpin", "paper", "--json").stdout)
    assert gone.keys() == {"name", "size_bytes"}
