"""What changed in a table: rows by their id, columns, values."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbnfs.errors import DatasetError
from vbnfs.tables.changes import compare_tables


def of_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode()


def changed(old: str, new: str) -> dict[str, int]:
    """How many rows changed in a column `value`, from one value to another."""
    table = "unit_id,value\n1,{}\n2,3.5\n"
    return dict(compare_tables(table.format(old).encode(), table.format(new).encode()).changed_columns)


def test_rows_and_columns() -> None:
    """Rows are identified by their id, whatever their place; ids of added, removed and changed ones are listed."""
    old = b"unit_id,ecephys_probe_id,snr,gone\n1,7,1.0,a\n2,7,2.0,a\n3,8,3.0,a\n"
    new = b"snr,unit_id,quality,ecephys_probe_id\n9.0,3,good,8\n1.0,1,good,7\n4.0,4,noise,8\n"
    changes = compare_tables(old, new)
    assert changes.key == "unit_id"
    assert (changes.old_rows, changes.new_rows) == (3, 3)
    assert (changes.old_columns, changes.new_columns) == (4, 4)
    assert (changes.added_columns, changes.removed_columns) == (("quality",), ("gone",))
    assert (changes.added_rows, changes.removed_rows, changes.changed_rows) == (1, 1, 1)
    assert (changes.added_ids, changes.removed_ids, changes.changed_ids) == ((4,), (2,), (3,))
    assert changes.changed_columns == {"snr": 1}


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.10", "0.1"), ("1", "1.0"), ("", "NaN"), ("1e-3", "0.001"), ('"a b"', "a b"), ("True", "True")],
)
def test_values_that_are_the_same(old: str, new: str) -> None:
    """Another spelling of a number, or of a missing value, is no change."""
    assert changed(old, new) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.1", "0.10000001"), ("1", ""), ("", "a"), ("a", "b"), ("1", "a"), ("True", "1"), ("1", "True")],
)
def test_values_that_are_others(old: str, new: str) -> None:
    """A number differs from another, and so do a value and a missing one, and a word and a number."""
    assert changed(old, new) == {"value": 1}


def test_a_column_that_turns_into_text() -> None:
    """Where a column of numbers gets a word, only the row with the word is another."""
    old, new = b"mouse_id,age\n1,10\n2,11.5\n3,\n", b"mouse_id,age\n1,10.0\n2,11.5\n3,unknown\n"
    changes = compare_tables(old, new)
    assert (changes.changed_columns, changes.changed_ids) == ({"age": 1}, (3,))
    assert compare_tables(new, old).changed_ids == (3,)


def test_true_false_and_missing() -> None:
    """A column of truth values in which one is missing is compared as what is written."""
    changes = compare_tables(b"a_id,valid\n1,True\n2,False\n3,True\n", b"a_id,valid\n1,True\n2,False\n3,\n")
    assert changes.changed_ids == (3,)


def test_ids_that_turn_into_text() -> None:
    """An id is the same whether its column is numbers or, for another id's sake, text."""
    changes = compare_tables(b"a_id,b\n1,x\n2,y\n", b"a_id,b\n1,x\nA2,y\n")
    assert (changes.added_ids, changes.removed_ids, changes.changed_rows) == (("A2",), ("2",), 0)
    assert compare_tables(b"a_id\n", b"a_id\n5\n").added_ids == (5,)


@pytest.mark.parametrize(
    ("old", "key"),
    [
        (b"a_id,b_id\n1,1\n2,2\n", "a_id"),
        (b"a_id,b_id\n1,1\n1,2\n", "b_id"),  # a_id names two rows
        (b"a_id,b_id\n1,1\n,2\n", "b_id"),  # a_id does not name all
        (b"file_id,b_id\n1,1\n2,2\n", "b_id"),  # the number of a file is no row's name
        (b"name,b\n1,1\n2,2\n", None),
    ],
)
def test_which_column_names_rows(old: bytes, key: str | None) -> None:
    """The first column ending in _id that names every row once, other than file_id."""
    assert compare_tables(old, old).key == key


def test_without_an_id_whole_rows_are_compared() -> None:
    """Equal rows are counted against each other; what is left was added or removed."""
    changes = compare_tables(b"a,b\n1,x\n1,x\n2,\n", b"b,a,c\nx,1,5\n,2,5\nz,3,5\n")
    assert changes.key is None
    assert (changes.added_rows, changes.removed_rows, changes.changed_rows) == (1, 1, 0)
    assert (changes.added_ids, changes.changed_columns) == ((), {})


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x89HDF\r\n\x1a\n\0\0\xff\xfe",
        b"a\n1,2\n",  # pandas alone would take the first value for the row's name
        b"a,b\n1\n1,2,3\n",
        b'a,b\n"1,2\n',
    ],
)
def test_what_is_no_table(bad: bytes) -> None:
    """Bytes that are not CSV are refused in one line that names the table: old or new."""
    good = b"unit_id\n1\n"
    with pytest.raises(DatasetError, match=r"^the old one cannot be read as CSV: [^\n]+$"):
        compare_tables(bad, good)
    with pytest.raises(DatasetError, match=r"^the new one cannot be read as CSV: [^\n]+$"):
        compare_tables(good, bad)


Rows = Mapping[int, tuple[str, str]]
ROWS = st.dictionaries(st.integers(0, 9), st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["1", "", "2"])))


@settings(deadline=None)  # pandas may take its time at first
@given(ROWS, ROWS)
def test_rows_are_those_of_two_dicts(old: Rows, new: Rows) -> None:
    """The counts of rows and values are those of comparing two dicts by id."""

    def table(rows: Rows) -> bytes:
        return of_rows(["row_id", "word", "number"], [(name, *values) for name, values in rows.items()])

    changes = compare_tables(table(old), table(new))
    both = old.keys() & new.keys()
    assert changes.key == "row_id"
    assert set(changes.added_ids) == new.keys() - old.keys()
    assert set(changes.removed_ids) == old.keys() - new.keys()
    assert set(changes.changed_ids) == {name for name in both if old[name] != new[name]}
    for position, column in enumerate(("word", "number")):
        count = sum(old[name][position] != new[name][position] for name in both)
        assert changes.changed_columns.get(column, 0) == count


ODD = [
    "",
    "NaN",
    "inf",
    "-0",
    "1e999",
    "9" * 20,
    "0x10",
    "True",
    "1_0",
    '"',
    '""',
    "é",
    "\0",
    "\r",
    "\ufeff",
    "1",
    " 1",
    "1.0",
]
CELLS = st.one_of(st.sampled_from(ODD), st.text(max_size=4), st.integers().map(str), st.floats().map(str))
HEADS = st.lists(st.sampled_from(["a_id", "b_id", "file_id", "x", "", "a_id.1"]), min_size=1, max_size=3)
LINES = st.tuples(HEADS, st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=5)).map(lambda t: [t[0], *t[1]])
TABLES = st.one_of(
    st.binary(max_size=80),
    LINES.map(lambda lines: "\n".join(",".join(line) for line in lines).encode("utf-8", "surrogatepass")),
)


@settings(deadline=None)
@given(TABLES, TABLES)
def test_any_bytes_are_compared_or_refused(old: bytes, new: bytes) -> None:
    """Whatever is given for a table, it is refused, or the counts add up and it equals itself."""
    try:
        changes = compare_tables(old, new)
    except DatasetError:
        return
    assert changes.new_rows - changes.old_rows == changes.added_rows - changes.removed_rows
    if changes.key is not None:
        assert (changes.added_rows, changes.removed_rows) == (len(changes.added_ids), len(changes.removed_ids))
    for one in (old, new):
        same = compare_tables(one, one)
        assert (same.added_rows, same.removed_rows, same.changed_rows, same.changed_columns) == (0, 0, 0, {})
