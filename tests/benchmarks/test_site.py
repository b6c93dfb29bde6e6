"""The program that measures site caches, in its smallest form."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.site import apart, by_a_variable, table
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cli.nginx_site import nginx_configuration
from vbnfs.cli.site import PRIVATE_NETWORKS, Site


def test_ranges_share_no_slice() -> None:
    """Ranges of many clients are whole blocks, each in another slice of any size; fewer where the file is small."""
    starts = apart(100 << 20, 20)
    assert len({start // (4 << 20) for start in starts}) == len(starts) == 20
    assert all(start % BLOCK_BYTES == 0 for start in starts)
    assert len(apart(10 << 20, 20)) == 2


def test_a_table_has_what_was_measured() -> None:
    """Sizes without any of the figures have no line."""
    found = {"none": {"b": 2.0}, "1M": {"a": 1.0}}
    assert table(found, ["a", "c"]).splitlines() == ["| slices | a | c |", "|---|---|---|", "| 1M | 1.00 |  |"]


def test_a_name_in_a_variable() -> None:
    """The compared configuration asks for the same path, by a name that nginx looks up again."""
    url = "https://s3.test:8443"
    site = Site("b", f"{url}/b", "127.0.0.1:1", PRIVATE_NETWORKS, "/kept", 1 << 30, 0, 1 << 20)
    changed = by_a_variable(url)(nginx_configuration(site))
    assert "set $server s3.test:8443;" in changed
    assert "proxy_pass https://$server$request_uri;" in changed
    assert "proxy_pass https://bucket" not in changed


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of networks are root's")
def test_it_measures(tmp_path: Path) -> None:
    """One size: a second pass costs the origin nothing, waiters cost it one slice each, and connections are kept."""
    options = ["--rounds", "1", "--slices", "1M", "--scale", "0.001", "--copy-mib", "17", "--clients", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.site", tmp_path, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| 1M")]
    assert len(rows) == 4
    asked, sent, requests = (float(cell.strip(" |")) for cell in rows[1][3:6])
    assert all(17.0 <= figure < 34.0 for figure in (asked, sent, requests))  # a file of 17 MiB, in slices of one
    assert all(4.0 <= float(cell.strip(" |")) < 8.0 for cell in rows[3][1:])  # a slice for each block, once for all
    kept, other = (
        int(line.split()[-2]) for line in done.stdout.splitlines() if line.startswith(("upstream", "a variable"))
    )
    assert kept < other
