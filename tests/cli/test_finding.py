"""`vbnfs sessions`, `probes`, `units`, `tables`: what they find, in which forms, and what they fetch for it."""

import io
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Data, Pattern
from tests.fixtures_mount import run_vbnfs
from vbnfs.cli.finding import Progress
from vbnfs.cli.found_rows import Form, show_rows
from vbnfs.dataset.manifest import DataFile
from vbnfs.objects import ObjectVersion

SESSIONS = (
    "ecephys_session_id,behavior_session_id,mouse_id,sex,experience_level,prior_exposures,file_id\n"
    "1044385384,11,524000,F,Familiar,12,2\n1046794563,12,524137,M,Novel,,3\n1048576384,13,524274,F,Novel,0,-999\n"
)
PROBES = (
    "ecephys_probe_id,ecephys_session_id,name,has_lfp_data,file_id\n"
    "10,1044385384,probeA,True,0\n11,1044385384,probeB,False,-999\n20,1046794563,probeA,True,1\n"
)
BEHAVIOR = "behavior_session_id,ecephys_session_id,sex,file_id\n11,1044385384.0,F,-999\n14,,M,4\n"
UNIT_COUNT = 802
LARGE_COUNT = 32_000  # which make more than 1 MiB
DATA: Mapping[str, Data] = {
    "behavior_ecephys_sessions/1044385384/probe_probeA_lfp.nwb": Pattern(3_000_000, seed=1),
    "behavior_ecephys_sessions/1046794563/probe_probeA_lfp.nwb": Pattern(600_000, seed=2),
    "behavior_ecephys_sessions/1044385384/ecephys_session_1044385384.nwb": Pattern(500_000, seed=3),
    "behavior_ecephys_sessions/1046794563/ecephys_session_1046794563.nwb": Pattern(400_000, seed=4),
    "behavior_only_sessions/14/behavior_session_14.nwb": Pattern(100_000, seed=5),
}
SESSION = "behavior_ecephys_sessions/1044385384/ecephys_session_1044385384.nwb"
UNITS_PATH = "project_metadata/units.csv"


def units_csv(shift: int = 0, *, count: int = UNIT_COUNT) -> str:
    """Units of two sessions; every fourth is in VISp, and snr goes from 0 to 4."""
    areas = ("VISp", "VISpm", "LP", "CA1")
    probes = ((10, 1044385384), (11, 1044385384), (20, 1046794563))
    rows = (
        f"{1061000000 + number},{probes[number % 3][0]},{probes[number % 3][1]},"
        f"{areas[number % 4]},{(number * 7 + shift) % 401 / 100}\n"
        for number in range(count)
    )
    return "unit_id,ecephys_probe_id,ecephys_session_id,structure_acronym,snr\n" + "".join(rows)


def tables(units: str) -> dict[str, Data]:
    texts = {"units": units, "probes": PROBES, "ecephys_sessions": SESSIONS, "behavior_sessions": BEHAVIOR}
    return {f"project_metadata/{name}.csv": text.encode() for name, text in texts.items()}


def dataset_with(units: int) -> FakeDataset:
    """A version with four tables and five data files; an older one has three tables."""
    dataset = FakeDataset()
    old = {name: data for name, data in tables(units_csv(1, count=units)).items() if "probes" not in name}
    dataset.publish("0.1.0", {**old, **DATA})
    dataset.publish("0.5.0", {**tables(units_csv(count=units)), **DATA})
    return dataset


@pytest.fixture(scope="module")
def dataset() -> FakeDataset:
    return dataset_with(UNIT_COUNT)


@pytest.fixture
def server(dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3Server]:
    """A server of small tables, which commands ask."""
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        yield server


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3Server]:
    """The same with a large table of units."""
    with FakeS3Server(dataset_with(LARGE_COUNT).store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        yield server


def printed(*command: str, status: int = 0) -> str:
    """What a command writes; a note or a failure does not count."""
    done = run_vbnfs(*command)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def rows(*command: str) -> list[dict[str, Any]]:
    """The rows that a command finds."""
    found: list[dict[str, Any]] = json.loads(printed(*command, "--json"))
    return found


def failure(*command: str, status: int = 2) -> str:
    """What a command says that finds nothing out."""
    done = run_vbnfs(*command)
    assert (done.returncode, done.stdout) == (status, "")
    return done.stderr


def test_what_is_found(server: FakeS3Server) -> None:
    """Queries and conditions on other tables find the rows that pandas finds in the released tables."""
    units = pd.read_csv(io.StringIO(units_csv()))
    good = units[(units["structure_acronym"] == "VISp") & (units["snr"] > 2)]
    query = "structure_acronym == 'VISp' and snr > 2"
    assert [row["unit_id"] for row in rows("units", "--query", query)] == good["unit_id"].tolist()
    novel = good[good["ecephys_session_id"] == 1046794563].sort_values("snr", ascending=False, kind="stable")
    having = ("--having-sessions", "experience_level == 'Novel'", "--sort", "-snr")
    assert [row["unit_id"] for row in rows("units", "--query", query, *having)] == novel["unit_id"].tolist()
    best = rows("units", "--query", query, *having, "--limit", "3", "--columns", "snr,unit_id")
    assert best == [
        {"snr": snr, "unit_id": unit} for snr, unit in zip(novel["snr"][:3], novel["unit_id"][:3], strict=True)
    ]
    assert [row["ecephys_session_id"] for row in rows("sessions", "--having-units", "snr > 3.9")] == [
        1044385384,
        1046794563,
    ]
    probes = rows("probes", "--query", "has_lfp_data", "--having-units", query, "--having-sessions", "sex == 'F'")
    assert [row["name"] for row in probes] == ["probeA"]
    assert rows("sessions", "--query", "sex == 'F'", "--having-units", "snr < 0") == []


def test_what_is_cached_of_sessions(server: FakeS3Server) -> None:
    """Each session has its own file and the LFP of its probes: how many, how large, cached, whole, pinned."""
    beside = ("files", "size_bytes", "cached_bytes", "whole_bytes")

    def found(command: str, *arguments: str) -> list[tuple[int, ...]]:
        return [tuple(row[name] for name in beside) for row in rows(command, *arguments)]

    assert found("sessions") == [(2, 3_500_000, 0, 0), (2, 1_000_000, 0, 0), (0, 0, 0, 0)]
    assert printed("verify", "--fetch", SESSION).startswith("good")
    assert found("sessions")[0] == (2, 3_500_000, 500_000, 500_000)
    assert found("probes") == [(1, 3_000_000, 0, 0), (0, 0, 0, 0), (1, 600_000, 0, 0)]
    assert found("tables", "behavior_sessions") == [(1, 500_000, 500_000, 500_000), (1, 100_000, 0, 0)]
    assert found("sessions", "--query", "whole_bytes > 0") == [(2, 3_500_000, 500_000, 500_000)]
    [probe] = rows("units", "--having-sessions", "whole_bytes == 0", "--limit", "1")
    assert probe["ecephys_session_id"] == 1046794563
    assert found("sessions", "--dataset-version", "0.1.0") == [
        (1, 500_000, 500_000, 500_000),
        (1, 400_000, 0, 0),
        (0, 0, 0, 0),
    ]
    assert [row["pinned_bytes"] for row in rows("sessions")] == [0, 0, 0]
    assert run_vbnfs("pin", "mine", SESSION).returncode == 0
    assert [row["pinned_bytes"] for row in rows("sessions")] == [500_000, 0, 0]


def test_forms(server: FakeS3Server, tmp_path: Path) -> None:
    """CSV, JSON and Parquet have all rows and columns; whole numbers stay whole beside empty cells."""
    text = printed("sessions", "--csv")
    assert text.startswith(
        "ecephys_session_id,behavior_session_id,mouse_id,sex,experience_level,prior_exposures,file_id,files"
    )
    assert [line.split(",")[5] for line in text.splitlines()[1:]] == ["12", "", "0"]
    one = printed("sessions", "--columns", "ecephys_session_id", "--csv")
    assert one.splitlines() == ["ecephys_session_id", *(line.split(",")[0] for line in text.splitlines()[1:])]
    as_csv = pd.read_csv(io.StringIO(text))
    assert as_csv.astype(object).where(as_csv.notna(), None).to_dict("records") == rows("sessions")
    file = tmp_path / "units.parquet"
    assert printed("units", "--parquet", str(file)).startswith(f"{file}  {UNIT_COUNT:,} rows, ")
    pd.testing.assert_frame_equal(pd.read_parquet(file), pd.read_csv(io.StringIO(units_csv())))
    plain = tmp_path / "plain"
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode  # others may read it as the user's umask says
    with file.open("rb") as opened:  # it is replaced as a whole: who reads it meanwhile has the earlier one
        before = file.read_bytes()
        printed("units", "--limit", "1", "--parquet", str(file))
        assert opened.read() == before
    assert "No such file or directory" in failure("units", "--parquet", str(tmp_path / "no" / "file"), status=1)
    assert "exclude each other" in failure("units", "--csv", "--json")


def test_rows_for_people(server: FakeS3Server) -> None:
    """People see the columns that matter most, 200 rows at most, and how many there are; empty cells are a dash."""
    done = run_vbnfs("units")
    lines = done.stdout.splitlines()
    assert len(lines) == 201
    assert lines[0].split() == ["unit_id", "ecephys_session_id", "ecephys_probe_id", "structure_acronym", "snr"]
    assert done.stderr == f"vbnfs: {UNIT_COUNT:,} rows; the first 200 are shown: --limit, --csv\n"
    assert len(printed("units", "--limit", "300").splitlines()) == 301
    nothing = run_vbnfs("units", "--query", "structure_acronym == 'visp'")
    assert (nothing.returncode, len(nothing.stdout.splitlines())) == (0, 1)
    assert nothing.stderr == "vbnfs: 0 rows; 'vbnfs tables COLUMN' lists the values that a column has\n"
    session = printed("sessions", "--query", "sex == 'M'", "--columns", "all").splitlines()
    assert session[0].split()[-5:] == ["files", "size_bytes", "cached_bytes", "whole_bytes", "pinned_bytes"]
    assert session[1].split() == [
        *("1046794563", "12", "524137", "M", "Novel", "-", "3", "2", "976.6", "KiB", *("0", "B") * 3)
    ]


@pytest.mark.parametrize("command", ["sessions", "probes", "units", "tables"])
def test_the_example_of_the_help(command: str, server: FakeS3Server) -> None:
    """The example in each command's help can be typed as it stands, and finds something."""
    [example] = [line for line in printed(command, "--help").splitlines() if line.startswith(f"  vbnfs {command} ")]
    assert len(printed(*shlex.split(example)[1:]).splitlines()) > 1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("units", "--query", "snr * 2 > 3"), "--query: character 1: snr * 2: no arithmetic"),
        (("sessions", "--having-units", "snr >"), "--having-units: character 6"),
        (("units", "--query", "snrr > 2"), "units has no column snrr; near it: snr\n"),
        (("units", "--query", "sex == 'F'"), "ecephys_sessions and behavior_sessions has it: --having-sessions"),
        (("units", "--query", "area == 'VISp'"), "no column area; 'vbnfs tables' lists the columns, and text"),
        (("units", "--query", "structure_acronym == VISp"), "text stands in quotes, as in 'VISp'"),
        (("units", "--query", "snr == 'high'"), "units: character 8: 'high': snr has numbers"),
        (("units", "--columns", "snr,,unit_id"), "names of columns, with commas"),
        (("units", "--columns", "unitid"), "near it: unit_id"),
        (("units", "--sort", "-unitid"), "near it: unit_id"),
        (("units", "--limit", "-1"), "-1 is not in the range"),
        (("tables", "expirience_level"), "no table and no column expirience_level; near it: experience_level"),
        (("tables", "sex", "--query", "sex == 'F'"), "are for the rows of a table"),
        (("tables", "--csv"), "are for the rows of a table"),
        (("tables", "units", "--having-channels", "snr > 2"), "no table channels"),
    ],
)
def test_what_is_wrong(command: tuple[str, ...], words: str, server: FakeS3Server) -> None:
    """A query or a name that will not do is answered with what is wrong, where, and what is near."""
    status = 1 if "--having-channels" in command else 2
    assert words in failure(*command, status=status)


def test_a_version_without_the_table(server: FakeS3Server) -> None:
    """A table that a dataset version lacks is named, with the page that explains it."""
    said = failure("probes", "--dataset-version", "0.1.0", status=1)
    assert "dataset version 0.1.0 has no table probes; 'vbnfs tables' lists those that there are" in said
    assert "troubleshooting.md#vbnfs-sessions-or-units-finds-nothing" in said


def test_tables_and_columns(large: FakeS3Server) -> None:
    """`tables` lists tables and columns by their beginnings, and the values of a column where they are few."""
    listed = rows("tables")
    assert sum(row["cached_bytes"] for row in listed) == 0
    assert [(row["table"], row["path"]) for row in listed] == [(path[17:-4], path) for path in tables("")]
    assert listed[1]["columns"] == PROBES.partition("\n")[0].split(",")
    [units] = [row for row in rows("tables") if row["table"] == "units"]
    assert 0 < units["cached_bytes"] < units["size_bytes"] / 2
    assert "  unit_id, ecephys_probe_id, ecephys_session_id, structure_acronym, snr\n" in printed("tables")
    assert printed("tables", "sex") == (
        "ecephys_sessions  2 values in 3 rows\n  F        2\n  M        1\n"
        "behavior_sessions  2 values in 2 rows\n  F        1\n  M        1\n"
    )
    [again] = [row for row in rows("tables") if row["table"] == "units"]
    assert again["cached_bytes"] == units["cached_bytes"], "a table without the column is not fetched"
    assert printed("tables", "snr") == f"units  401 values in {LARGE_COUNT:,} rows, from 0.0 to 4.0\n"
    [values] = rows("tables", "prior_exposures")
    assert (values["empty"], values["distinct"]) == (1, 2)
    assert values["values"] == [{"value": 0.0, "rows": 1}, {"value": 12.0, "rows": 1}]


def test_without_network(large: FakeS3Server) -> None:
    """What was found once is found without network, also where a large table has gone from the cache since."""
    command = ("sessions", "--having-units", "snr > 2", "--csv")
    online = printed(*command)
    large.forget_requests()
    assert printed(*command, "--offline") == online
    assert large.count() == 0
    assert "units.csv" in printed("clean", UNITS_PATH, "--dry-run")
    printed("clean", UNITS_PATH)
    large.stop()
    done = run_vbnfs(*command)
    assert (done.returncode, done.stdout) == (0, online)
    assert "cannot be reached" in done.stderr
    assert [row["unit_id"] for row in rows("units", "--limit", "1")] == [1061000000]
    assert "snr" in printed("tables")
    assert "not cached" in failure("units", "--dataset-version", "0.1.0", status=1)


def test_a_large_table_is_parsed_once(large: FakeS3Server, tmp_path: Path) -> None:
    """A large table is kept parsed under its hash; a damaged one is parsed anew; what no version has goes."""
    printed("units", "--limit", "1")
    [kept] = list((tmp_path / "cache").rglob("datasets-v1/**/tables/*"))
    assert len(kept.name) == 128
    stranger = kept.with_name("0" * 128)
    stranger.write_bytes(b"of a version that was withdrawn")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:5000])
    assert len(rows("units")) == LARGE_COUNT
    assert kept.read_bytes() == whole
    assert not stranger.exists()
    printed("units", "--limit", "1", "--dataset-version", "0.1.0")
    assert len(list(kept.parent.iterdir())) == 2


def test_tables_that_are_odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables without rows, with odd ids of files or names of columns, and what is no table, end in order."""
    dataset = FakeDataset()
    odd = {
        "ecephys_sessions": b"ecephys_session_id,file_id,files\n1,x,7\n2,1e400,8\n3,,9\n4,0.0,10\n",
        "probes": b"ecephys_probe_id,ecephys_session_id,file_id\n",
        "units": b"unit_id,a b,\xc3\xa9\n1,\x1b[2J,\xc3\xa9\n",
        "channels": b"\x00\xff\xfe\n\xff",
    }
    dataset.publish(
        "0.5.0", {**{f"project_metadata/{k}.csv": v for k, v in odd.items()}, "a/session.nwb": Pattern(1000)}
    )
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        assert [row["size_bytes"] for row in rows("sessions")] == [0, 0, 0, 1000]
        assert [row["files"] for row in rows("sessions")] == [7, 8, 9, 10], "the table's own column stays"
        assert rows("probes") == []
        assert "\x1b" not in printed("units")
        assert rows("units", "--query", "é == 'é'")[0]["a b"] == "\x1b[2J"
        assert "channels.csv cannot be read as CSV" in failure("tables", "channels", status=1)
        assert "channels.csv cannot be read as CSV" in failure("tables", status=1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_csv_cannot_drive_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal control characters of cells and columns are escapes; a file gets them as they are."""
    found, form = pd.DataFrame({"a\x1b[3J": ["x\x1b[2Jé\ny", "b"]}), Form(True, False, None, False, 0o600)
    for stream, shown in ((Terminal(), 'a\\x1b[3J\n"x\\x1b[2Jé\ny"\nb\n'), (io.StringIO(), None)):
        monkeypatch.setattr("sys.stdout", stream)
        show_rows(found, form, name="x", is_limited=False, note=lambda _text: None)
        assert stream.getvalue() == (shown or found.to_csv(index=False))


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), "100%"), (io.StringIO(), "")])
def test_progress_of_a_large_table(stream: io.StringIO, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a large table is read, a terminal has a bar; elsewhere a line says what is read."""
    monkeypatch.setattr("sys.stderr", stream)
    progress, file = Progress(), DataFile(("project_metadata", "units.csv"), ObjectVersion("key", "1"), None)
    for done in range(1, 11):
        progress(file, done << 20, 10 << 20)
    printed = stream.getvalue()
    assert printed.count("project_metadata/units.csv") >= 1
    assert shown in printed
    assert ("reading project_metadata/units.csv, 10.0 MiB" in printed) is not bool(shown)


def test_the_sister_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imaging sessions are found in the table that the sister dataset has of them, with their experiments' files."""
    dataset = FakeDataset(bucket="visual-behavior-ophys-data", project="visual-behavior-ophys")
    tables = {
        "ophys_session_table": b"ophys_session_id,behavior_session_id,mouse_id\n5,50,445002\n6,60,445003\n",
        "ophys_experiment_table": b"ophys_experiment_id,ophys_session_id,targeted_structure,file_id\n"
        b"1,5,VISp,0\n2,5,VISl,1\n",
        "ophys_cells_table": b"cell_roi_id,cell_specimen_id,ophys_experiment_id\n7,8,1\n",
    }
    files = {f"behavior_ophys_experiments/behavior_ophys_experiment_{n}.nwb": Pattern(1000 * n) for n in (1, 2)}
    dataset.publish("1.1.0", {**{f"project_metadata/{k}.csv": v for k, v in tables.items()}, **files})
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        ophys = ("--dataset", "visual-behavior-ophys")
        assert [(row["files"], row["size_bytes"]) for row in rows("sessions", *ophys)] == [(2, 3000), (0, 0)]
        [experiment] = rows("tables", "ophys_experiment_table", "--query", "targeted_structure == 'VISl'", *ophys)
        assert experiment["size_bytes"] == 2000
        said = failure("sessions", "--query", "targeted_structure == 'VISp'", *ophys)
        assert 'ophys_experiment_table has it: --having ophys_experiment_table "..."' in said
        having = ("--having", "ophys_experiment_table", "targeted_structure == 'VISp'")
        assert [row["mouse_id"] for row in rows("sessions", *having, *ophys)] == [445002]
        assert "has no table units" in failure("units", *ophys, status=1)
