"""Tables read and written, joined by their ids, and the values of columns."""

import pandas as pd
import pytest

from vbnfs.errors import DatasetError, UsageError
from vbnfs.suggestions import near
from vbnfs.tables.joins import having, shared_id
from vbnfs.tables.query import parse_query
from vbnfs.tables.reading import (
    has_parquet,
    read_csv,
    read_header,
    read_parquet,
    with_whole_numbers,
    write_parquet,
)
from vbnfs.tables.selection import matching
from vbnfs.tables.values import values_of

SESSIONS = read_csv(b"ecephys_session_id,behavior_session_id,sex\n1,11,F\n2,12,M\n3,13,F\n", name="s")
PROBES = read_csv(b"ecephys_probe_id,ecephys_session_id,name\n10,1,A\n11,1,B\n20,2,A\n", name="p")
CHANNELS = read_csv(b"ecephys_channel_id,ecephys_probe_id,ecephys_session_id\n100,10,1\n110,11,1\n", name="c")
UNITS = read_csv(
    b"unit_id,ecephys_channel_id,ecephys_probe_id,ecephys_session_id,snr\n5,100,10,1,3\n6,100,10,1,1\n7,900,20,2,1\n",
    name="u",
)
BEHAVIOR = read_csv(b"behavior_session_id,ecephys_session_id,stage\n11,1,E\n14,,T\n12,2.0,E\n", name="b")
LONELY = read_csv(b"file_id,name\n1,a\n", name="l")


@pytest.mark.parametrize(
    ("table", "other", "by"),
    [
        *((SESSIONS, UNITS, "ecephys_session_id"), (UNITS, SESSIONS, "ecephys_session_id")),
        *(
            (PROBES, UNITS, "ecephys_probe_id"),
            (UNITS, PROBES, "ecephys_probe_id"),
            (PROBES, CHANNELS, "ecephys_probe_id"),
        ),
        *((CHANNELS, UNITS, "ecephys_channel_id"), (CHANNELS, PROBES, "ecephys_probe_id")),
        *(
            (BEHAVIOR, SESSIONS, "behavior_session_id"),
            (BEHAVIOR, UNITS, "ecephys_session_id"),
            (LONELY, UNITS, None),
        ),
    ],
)
def test_the_id_by_which_tables_belong_together(table: pd.DataFrame, other: pd.DataFrame, by: str | None) -> None:
    """Two tables belong together by an id of one's rows that the other has; else by one that both name."""
    assert shared_id(table, other) == by


@pytest.mark.parametrize(
    ("table", "other", "query", "rows"),
    [
        (SESSIONS, UNITS, "snr > 2", [True, False, False]),
        (SESSIONS, UNITS, "snr > 0", [True, True, False]),
        (PROBES, UNITS, "snr > 2", [True, False, False]),
        (UNITS, SESSIONS, "sex == 'M'", [False, False, True]),
        (BEHAVIOR, UNITS, "snr < 2", [True, False, True]),
        (SESSIONS, BEHAVIOR, "stage == 'E'", [True, True, False]),
        (SESSIONS, UNITS, "snr > 9", [False, False, False]),
    ],
)
def test_rows_with_rows_of_another_table(
    table: pd.DataFrame, other: pd.DataFrame, query: str, rows: list[bool]
) -> None:
    """A row is found if a row of the other table that belongs to it matches; an empty id belongs to nothing."""
    wanted = matching(other, parse_query(query), name="other")
    assert having(table, other, wanted, names=("table", "other")).tolist() == rows


def test_tables_without_an_id_in_common() -> None:
    """Tables whose rows cannot belong together are refused by their names."""
    with pytest.raises(UsageError, match="lonely and units have no id in common"):
        having(LONELY, UNITS, UNITS["snr"] > 0, names=("lonely", "units"))


def test_whole_numbers_with_empty_cells() -> None:
    """Whole numbers stay whole beside empty cells; what has a fraction, and what is text, is left alone."""
    table = read_csv(b"a_id,b,c,d,e\n1044385384,1,1.5,x,\n,2,,y,\n", name="t")
    assert with_whole_numbers(table).to_csv(index=False) == "a_id,b,c,d,e\n1044385384,1,1.5,x,\n,2,,y,\n"


@pytest.mark.skipif(not has_parquet(), reason="the extra tables is not installed")
def test_parquet_is_the_same_table() -> None:
    """What is kept as Parquet is the table as pandas reads its CSV, types and empty cells included."""
    table = read_csv(b"i,f,t,b,bn,n,id\n1,0.1,a,True,True,,1\n2,,,False,,,\n3,inf,c,True,False,,3\n", name="t")
    data = write_parquet(table)
    again = read_parquet(data)
    assert again is not None
    assert again.notna().equals(table.notna())
    assert again.dtypes.tolist() == table.dtypes.tolist()
    for name in table.columns:
        assert again[name].dropna().tolist() == table[name].dropna().tolist()
    for damaged in (b"", data[:-9], b"PAR1" + bytes(20) + b"PAR1"):
        assert read_parquet(damaged) is None


@pytest.mark.parametrize("data", [b"a,b\n1,2,3\n4,5,6\n", b"", b"a,b\n\xff\xfe,1\n"])
def test_what_is_no_table(data: bytes) -> None:
    """Bytes that are no table are refused by the table's name."""
    with pytest.raises(DatasetError, match=r"^units\.csv cannot be read as CSV: "):
        read_csv(data, name="units.csv")


def test_the_header_of_a_beginning() -> None:
    """The names of columns are read from a table's first line alone, also in quotes and behind a byte order mark."""
    assert read_header(b'a,"b, c",d\n1,2', name="t") == ["a", "b, c", "d"]
    assert read_header("\ufeffa,é\r\n".encode(), name="t") == ["a", "é"]
    assert read_header(b"", name="t") == []
    with pytest.raises(DatasetError, match=r"^t cannot be read as CSV"):
        read_header(b"\xff\xff\n", name="t")


def test_values_of_columns() -> None:
    """Few values are counted, the most frequent first; of many there are only their number and their ends."""
    few = values_of(read_csv(b"x,y\na,1\nb,2\nb,\n,4\n", name="t"), "x", name="t")
    assert (few.rows, few.empty, few.distinct, list(few.counts)) == (4, 1, 2, [("b", 2), ("a", 1)])
    many = values_of(pd.DataFrame({"x": range(100)}), "x", name="t")
    assert (many.distinct, list(many.counts), many.least, many.most) == (100, [], 0, 99)
    none = values_of(read_csv(b"x,y\n,1\n", name="t"), "x", name="t")
    assert (none.distinct, none.empty, none.least) == (0, 1, None)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        *(("structure_acronim", ["structure_acronym"]), ("SNR", ["snr"]), ("acronym", ["structure_acronym"])),
        *(("zzz", []), ("", [])),
    ],
)
def test_names_that_are_near(name: str, nearest: list[str]) -> None:
    """Names with few other letters are near, whatever their case, and those that have the wrong one within them."""
    assert near(name, ["snr", "structure_acronym", "quality"]) == nearest
