"""`vbnfs diff`: what it finds in a genuine release, what it shows, and what it does where something is missing."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.listing import make_store
from tests.dataset.real_list import real_file_name
from tests.fakes.dataset import FakeDataset
from tests.fakes.relay import Relay
from tests.fakes.s3_server import FakeS3Server, always, error, for_kind, held
from tests.fakes.store import Data, Pattern
from tests.fixtures_mount import run_vbnfs
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease, ReleasedFile

UNITS = "project_metadata/units.csv"
SESSION = "sessions/session_1.nwb"


def diff(url: str, *arguments: str, status: int = 0) -> str:
    """What `vbnfs diff` prints."""
    done = run_vbnfs("diff", "--endpoint-url", url, *arguments)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def diff_json(url: str, *arguments: str, status: int = 0) -> dict[str, Any]:
    """What `vbnfs diff --json` says."""
    report: dict[str, Any] = json.loads(diff(url, "--json", *arguments, status=status))
    return report


@pytest.fixture
def dataset() -> FakeDataset:
    """Version 0.1.0 of a dataset."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {UNITS: b"unit_id,snr\n1,1.5\n2,2.5\n", SESSION: Pattern(300_000)})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    """A server of it."""
    with FakeS3Server(dataset.store) as server:
        yield server


# A genuine release


def sizes_of(files: Mapping[str, ReleasedFile], paths: set[str]) -> int:
    return sum(files[path].size_bytes for path in paths)


def test_files_of_a_genuine_release(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Every file that is not the same in both is listed with its paths and sizes; the sums are those of the files."""
    old, new = tiny_release.files["0.2.0"], tiny_release.files["0.4.0"]
    report = diff_json(seaweed.endpoint_url, "0.2.0", "0.4.0", "--no-tables")
    assert report["tables"] == []
    assert (report["old"]["files"], report["new"]["files"]) == (len(old), len(new))
    assert report["old"]["manifest"] == tiny_release.manifest_key("0.2.0").rpartition("/")[2]
    seen_old = {row["old_path"]: row["old_size_bytes"] for row in report["files"] if row["old_path"]}
    seen_new = {row["new_path"]: row["new_size_bytes"] for row in report["files"] if row["new_path"]}
    same = {path for path in old.keys() & new.keys() if old[path].file_hash == new[path].file_hash}
    assert seen_old == {path: old[path].size_bytes for path in old.keys() - same}
    assert seen_new == {path: new[path].size_bytes for path in new.keys() - same}
    assert all(row["fetch_bytes"] == row["new_size_bytes"] for row in report["files"])
    [renamed] = [row for row in report["files"] if row["change"] == "renamed"]
    assert old[renamed["old_path"]].file_hash == new[renamed["new_path"]].file_hash
    totals = {total["change"]: total for total in report["totals"]}
    assert list(totals) == ["changed", "renamed", "created", "deleted", "same"]
    assert totals["same"]["files"] == len(same)
    assert totals["same"]["new_size_bytes"] == totals["same"]["fetch_bytes"] == sizes_of(new, same)
    assert sum(total["old_size_bytes"] for total in totals.values()) == sizes_of(old, set(old))
    assert sum(total["files"] for total in totals.values() if total["change"] != "created") == len(old)
    assert report["fetch_bytes"] == report["new"]["size_bytes"] == sizes_of(new, set(new))


def test_tables_of_a_genuine_release(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Tables that changed are compared by their ids; other files, and tables that are the same, are not read."""
    [units] = diff_json(seaweed.endpoint_url, "0.1.0", "0.2.0")["tables"]
    with tiny_release.files["0.2.0"][UNITS].source.open() as file:
        columns, rows = len(next(file).split(",")), sum(1 for _ in file)
    changes = units["changes"]
    assert (units["path"], units["problem"]) == (UNITS, None)
    assert (changes["key"], changes["new_rows"], changes["new_columns"]) == ("unit_id", rows, columns)
    assert changes["changed_rows"] == len(changes["changed_ids"]) == rows
    assert set(changes["changed_columns"].values()) == {rows}
    assert {name.partition("_ccf")[1] for name in changes["changed_columns"]} == {"_ccf"}
    tables = {t["path"]: t["changes"] for t in diff_json(seaweed.endpoint_url, "0.4.0", "0.5.0")["tables"]}
    assert tables[UNITS]["added_columns"] == ["quality"]
    assert "project_metadata/channels.csv" not in tables, "uploaded anew, but the same"


def test_what_is_read_is_cached(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Tables go through the cache: afterwards nothing of them is to be fetched, and it all works without network."""
    new = tiny_release.files["0.2.0"]
    with Relay(seaweed.endpoint_url) as relay:
        report = diff_json(relay.endpoint_url, "0.1.0", "0.2.0")
        assert report["fetch_bytes"] == sizes_of(new, new.keys() - {UNITS})
        [row] = [row for row in report["files"] if row["new_path"] == UNITS]
        assert row["fetch_bytes"] == 0
        rows = json.loads(run_vbnfs("versions", "--json", "--endpoint-url", relay.endpoint_url).stdout)
        assert [row["cached_bytes"] for row in rows][:2] == [
            tiny_release.files[version][UNITS].size_bytes for version in ("0.1.0", "0.2.0")
        ]
    offline = run_vbnfs("diff", "0.1.0", "0.2.0", "--json", "--endpoint-url", relay.endpoint_url)
    assert (offline.returncode, json.loads(offline.stdout)) == (0, report)
    assert "cannot be reached" in offline.stderr


def test_text_of_a_genuine_release(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """The sums come first, then the tables, then a line for each file, whose first word is what happened to it."""
    text = diff(seaweed.endpoint_url, "0.4.0", "0.5.0")
    sums, tables, files = text.index("\nsame "), text.index("tables that changed:"), text.index("change ")
    assert sums < tables < files
    assert "columns  35 -> 36: quality added" in text
    rows = [line.split() for line in text[files:].splitlines()[1:]]
    old, new = tiny_release.files["0.4.0"], tiny_release.files["0.5.0"]
    both = old.keys() & new.keys()
    assert {line[-1] for line in rows if line[0] == "created"} == new.keys() - old.keys()
    assert {line[-1] for line in rows if line[0] == "deleted"} == old.keys() - new.keys()
    changed = {path for path in both if old[path].file_hash != new[path].file_hash}
    assert {line[-1] for line in rows if line[0] == "changed"} == changed
    assert diff(seaweed.endpoint_url, "0.4.0", "0.5.0", "--summary") == text[: files - 1]


def test_allensdk_format(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """--format allensdk prints what `print(cache.compare_manifests(...))` does, without asking for a table."""
    names = [tiny_release.manifest_key(version).rpartition("/")[2] for version in ("0.1.0", "0.2.0")]
    assert diff(seaweed.endpoint_url, "v0.1.0", "0.2.0", "--format", "allensdk") == (
        f"Changes going from\n{names[0]}\nto\n{names[1]}\n\n{UNITS} changed\n\n"
    )
    same = diff(seaweed.endpoint_url, "latest", "--format", "allensdk")
    assert same == "The two manifests are equivalent\n"


# What the real dataset looks like


def test_the_real_list_fits_a_terminal() -> None:
    """All lines of the real release's list fit in 100 columns, and its manifests are all that is asked for."""
    with FakeS3Server(make_store()) as server:
        text = diff(server.endpoint_url, "0.4.0", "0.5.0", "--no-tables")
        assert server.count("get_range") == server.count("head") == 0
    lines = text.splitlines()
    assert real_file_name("0.4.0") in lines[0]
    assert real_file_name("0.5.0") in lines[1]
    assert len(lines) > 1000
    assert max(map(len, lines)) <= 100


def in_a_terminal(columns: int, *arguments: str) -> str:
    """What a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40 if columns else 0, columns, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "vbnfs", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 4096):
            written += piece
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    assert child.wait() == 0
    return written.decode()


@pytest.mark.parametrize("columns", [0, 60, 80])
def test_paths_stay_whole_on_a_terminal(dataset: FakeDataset, server: FakeS3Server, columns: int) -> None:
    """However wide the terminal is, and where it does not say, no path and no URL is broken: they can be copied."""
    name = "/".join(f"folder{number:02}" for number in range(16))
    dataset.publish("0.2.0", {UNITS: b"unit_id,snr\n1,1.5\n2,2.5\n", SESSION: Pattern(300_000), name: b"new"})
    text = in_a_terminal(columns, "diff", "0.1.0", "--endpoint-url", server.endpoint_url)
    assert any(line.startswith("created") and line.endswith(f" {name}") for line in text.splitlines())
    urls = in_a_terminal(columns, "urls", "--endpoint-url", server.endpoint_url).splitlines()
    assert any(f"/{name}?versionId=" in url for url in urls)
    assert len(urls) == 3


# Which versions


def test_versions_by_name(dataset: FakeDataset, server: FakeS3Server) -> None:
    """0.1.0, v0.1.0 and latest name a version; NEW left out is the latest, OLD the one before; the order is ours."""
    dataset.publish("0.2.0", {UNITS: b"unit_id,snr\n1,1.5\n", SESSION: Pattern(300_000)})
    there = diff_json(server.endpoint_url, "0.1.0", "0.2.0")
    assert diff_json(server.endpoint_url, "v0.1.0", "latest") == there
    assert diff_json(server.endpoint_url, "v0.1.0") == there
    assert diff_json(server.endpoint_url) == there
    back = diff_json(server.endpoint_url, "latest", "0.1.0")
    assert (back["old"], back["new"]) == (there["new"], there["old"])
    assert there["tables"][0]["changes"]["removed_ids"] == back["tables"][0]["changes"]["added_ids"] == [2]


def test_equal_versions(server: FakeS3Server) -> None:
    """A version compared with itself is the same, with status 0."""
    assert "the two versions have the same files" in diff(server.endpoint_url, "0.1.0")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["0.9.9", "0.1.0"], 1, "no dataset version 0.9.9; there are: 0.1.0"),
        (["0.1.0", "v7"], 1, "no dataset version 7; there are: 0.1.0"),
        (["../x", "0.1.0"], 2, "'../x' will not do: a version such as 0.5.0 is wanted"),
        (["0.1.0", "\x1b[2J"], 2, r"'\x1b[2J' will not do"),
        (["0.1.0", "--json", "--format", "allensdk"], 2, "exclude each other"),
        (["0.1.0", "--summary", "--format", "allensdk"], 2, "exclude each other"),
        (["0.1.0", "--format", "xml"], 2, "xml"),
        ([], 1, "no older dataset version than 0.1.0"),
    ],
)
def test_wrong_usage(server: FakeS3Server, arguments: list[str], status: int, message: str) -> None:
    """A version that there is not is status 1, and those that there are are named; wrong words are status 2."""
    done = run_vbnfs("diff", "--endpoint-url", server.endpoint_url, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert "\x1b" not in done.stderr


# What can go wrong


def test_a_table_that_is_none(dataset: FakeDataset, server: FakeS3Server) -> None:
    """Bytes that are no CSV are reported for that table, and the rest as usual; large tables are announced."""
    dataset.publish("0.2.0", {UNITS: Pattern(17 << 20), SESSION: Pattern(300_000, seed=1)})
    done = run_vbnfs("diff", "0.1.0", "--endpoint-url", server.endpoint_url)
    assert done.returncode == 0
    assert "the new one cannot be read as CSV" in done.stdout
    assert SESSION in done.stdout
    assert "fetching 17.0 MiB of tables to compare them; --no-tables leaves that out" in done.stderr


def test_a_table_with_other_bytes(dataset: FakeDataset, server: FakeS3Server) -> None:
    """A table whose bytes do not have the manifest's hash is reported, with status 1, and not compared."""
    entry = dataset.entry(UNITS, b"unit_id,snr\n1,9.9\n")
    dataset.publish_entries("0.2.0", {"units.csv": entry | {"file_hash": "0" * 128}})
    done = run_vbnfs("diff", "0.1.0", "--json", "--endpoint-url", server.endpoint_url)
    assert done.returncode == 1
    assert f"{UNITS}: " in done.stderr
    assert "do not have the file_hash" in done.stderr
    report = json.loads(done.stdout)
    [table] = report["tables"]
    assert (table["changes"], table["is_read"]) == (None, False)
    assert [row["change"] for row in report["files"]] == ["changed", "deleted"]


def test_a_table_that_is_not_cached_without_network(dataset: FakeDataset, server: FakeS3Server) -> None:
    """Without network, what is stored is compared at once; tables that are not cached are reported, with status 1."""
    dataset.publish("0.2.0", {UNITS: b"unit_id,snr\n1,1.5\n", SESSION: Pattern(300_000)})
    url = server.endpoint_url
    run_vbnfs("versions", "--endpoint-url", url)
    server.stop()
    done = run_vbnfs("diff", "0.1.0", "--endpoint-url", url)
    assert done.returncode == 1
    for text in (done.stdout, done.stderr):
        assert "not cached, and the bucket is not reached" in " ".join(text.split())
    assert diff_json(url, "0.1.0", "--no-tables")["files"][0]["change"] == "changed"


def test_a_bucket_that_refuses_to_list_versions(dataset: FakeDataset, server: FakeS3Server) -> None:
    """Where no listing tells sizes, those of files that changed are asked for; the others are not known."""
    new: Mapping[str, Data] = {UNITS: b"unit_id,snr\n1,1.5\n", SESSION: Pattern(300_000)}
    dataset.publish("0.2.0", new)
    server.behaviours.append(for_kind("list_versions", always(error(403, "AccessDenied"))))
    report = diff_json(server.endpoint_url, "0.1.0")
    [row] = report["files"]
    assert (row["old_size_bytes"], row["new_size_bytes"]) == (24, len(new[UNITS]))
    assert report["tables"][0]["changes"]["removed_ids"] == [2]
    assert (report["fetch_bytes"], report["new"]["size_bytes"]) == (None, None)
    text = diff(server.endpoint_url, "0.1.0")
    assert "same " in text
    assert "?" in text


def test_text_from_outside_does_not_drive_the_terminal(dataset: FakeDataset, server: FakeS3Server) -> None:
    """Escape sequences in a table's header and ids are shown, not obeyed; a refused manifest is a warning."""
    evil = "\x1b]0;owned\x07"
    dataset.publish("0.2.0", {UNITS: f'unit_id,"{evil}\nx"\n{evil},1\n'.encode(), SESSION: Pattern(300_000)})
    dataset.publish_entries("0.3.0", {"1": {"url": evil, "version_id": "v", "file_hash": "h"}})
    done = run_vbnfs("diff", "0.1.0", "0.2.0", "--endpoint-url", server.endpoint_url)
    assert done.returncode == 0
    assert r"\x1b]0;owned\x07\nx added" in done.stdout
    assert r"1 added (\x1b]0;owned\x07)" in done.stdout
    assert "v0.3.0.json" in done.stderr
    assert not {"\x1b", "\x07"} & set(done.stdout + done.stderr)


def test_interrupted(dataset: FakeDataset, server: FakeS3Server) -> None:
    """Ctrl-C while a table is being fetched ends it at once, without a traceback, with status 130."""
    dataset.publish("0.2.0", {UNITS: b"unit_id,snr\n1,1.5\n"})
    server.behaviours.append(for_kind("get_range", held(server.ending)))
    # A script that is run in the background ignores Ctrl-C, and so does everything that it starts.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "vbnfs", "diff", "0.1.0"]
    command += ["--endpoint-url", server.endpoint_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        server.wait_until(lambda server: server.count("get_range") > 0, seconds=30)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err.strip()) == (130, "", "vbnfs: interrupted")


def test_nobody_reads_on(server: FakeS3Server, tmp_path: Path) -> None:
    """When standard output is closed early, as by `head`, nothing is said about it."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "vbnfs", "diff", "0.1.0", "--endpoint-url", server.endpoint_url]
    with os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
