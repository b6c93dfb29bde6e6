"""Which rows a condition holds for: as pandas has it, and what an empty cell does."""

from collections.abc import Sequence
from contextlib import suppress

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbnfs.errors import UsageError
from vbnfs.tables.columns import UnknownColumnError
from vbnfs.tables.query import QueryError, parse_query
from vbnfs.tables.reading import read_csv
from vbnfs.tables.selection import in_order, matching

CSV = b"""unit_id,snr,depth,area,quality,is_good,was_read,nothing
1,0.5,20,VISp,good,True,True,
2,2.5,40,VISpm,noise,False,,
3,,60,LP,,True,False,
4,3.0,80,CA1,good,True,,
5,-1.0,100,VISp,,False,True,
"""
TABLE = read_csv(CSV, name="table")


def found(text: str, table: pd.DataFrame = TABLE) -> list[int]:
    """The ids of the rows for which a query holds."""
    rows = table[matching(table, parse_query(text), name="units")]
    return [int(unit) for unit in rows["unit_id"]]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        *(("snr > 2", [2, 4]), ("not snr > 2", [1, 3, 5]), ("snr <= 2", [1, 5]), ("2 < snr < 3", [2])),
        *(
            ("snr != 3", [1, 2, 3, 5]),
            ("snr == 3", [4]),
            ("snr in [3, 0.5]", [1, 4]),
            ("snr not in [3]", [1, 2, 3, 5]),
        ),
        *(("area == 'VISp'", [1, 5]), ("area < 'LQ'", [3, 4]), ("'LP' <= area", [1, 2, 3, 5])),
        *(("quality != 'good'", [2, 3, 5]), ("quality > 'a'", [1, 2, 4]), ("quality in ['noise']", [2])),
        *(
            ("quality.isna()", [3, 5]),
            ("quality.notna() and snr.notna()", [1, 2, 4]),
            ("nothing.isna()", [1, 2, 3, 4, 5]),
        ),
        *(("is_good", [1, 3, 4]), ("not is_good", [2, 5]), ("is_good == False", [2, 5]), ("~is_good", [2, 5])),
        *(
            ("was_read", [1, 5]),
            ("not was_read", [2, 3, 4]),
            ("was_read == False", [3]),
            ("was_read != True", [2, 3, 4]),
        ),
        *(("nothing == 1", []), ("nothing != 'x'", [1, 2, 3, 4, 5]), ("nothing < 'x'", []), ("nothing", [])),
        *(("snr > unit_id", [2]), ("unit_id < depth", [1, 2, 3, 4, 5]), ("snr != depth", [1, 2, 3, 4, 5])),
        *(("area.str.contains('VISp')", [1, 2, 5]), ("area.str.contains('^VISp$')", [1, 5])),
        *(("area.str.contains('visp', case=False)", [1, 2, 5]), ("area.str.contains('P$')", [3])),
        *(("area.str.contains('.', regex=False)", []), ("quality.str.contains('o')", [1, 2, 4])),
        *(("area.str.startswith('VIS')", [1, 2, 5]), ("area.str.endswith('m')", [2])),
        *(("not quality.str.contains('good')", [2, 3, 5]), ("nothing.str.contains('a')", [])),
        *(("area == 'LP' or snr > 2 and is_good", [3, 4]), ("(area == 'LP' or snr > 2) and is_good", [3, 4])),
        *(("(snr > 2) & is_good | (area == 'LP')", [3, 4]), ("not (is_good or was_read)", [2])),
    ],
)
def test_rows_that_are_found(text: str, units: list[int]) -> None:
    """Each form of condition finds its rows. For an empty cell only !=, not in and isna hold, as in pandas."""
    assert found(text) == units


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(("snr > 'a'", "character 7: 'a': snr has numbers"), ("snr == '2'", "write a number")),
        *(("area == 5", "area has text: write text in quotes"), ("area in ['LP', 3]", "character 16")),
        *(("is_good == 1", "is_good has True and False"), ("snr == True", "snr has numbers")),
        *(
            ("snr", "compare it, as in snr > 2"),
            ("area", "this column has text"),
            ("snr and is_good", "not a condition"),
        ),
        *(
            ("snr.str.contains('a')", "no text: this column has numbers"),
            ("snr > area", "snr has numbers, and area text"),
        ),
        ("was_read == 'True'", "was_read has True and False"),
    ],
)
def test_values_of_another_kind(text: str, words: str) -> None:
    """A column of one kind is not compared with a value of another: nothing could be equal."""
    with pytest.raises(QueryError) as caught:
        found(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(("snrr > 2", "units has no column snrr; near it: snr"), ("Area == 'LP'", "near it: area")),
        *(("good", "near it: is_good"), ("xyz > 2", "units has no column xyz"), ("index > 1", "no column index")),
    ],
)
def test_unknown_columns(text: str, words: str) -> None:
    """A column that is not there is answered with the names that are near it."""
    with pytest.raises(UnknownColumnError) as caught:
        found(text)
    assert words in str(caught.value)


def test_long_texts() -> None:
    """A repeat is searched for in no column with a long text, which could take seconds; what has none is."""
    table = pd.DataFrame({"unit_id": [1, 2], "notes": ["b" + "a" * 5000, "b"]})
    assert found("notes.str.contains('ba?a')", table) == [1]
    assert found("notes.str.contains('ba*', regex=False)", table) == []
    with pytest.raises(QueryError, match="it has a text of more than 4,000 characters"):
        found("notes.str.contains('.*c')", table)


NUMBERS, TEXTS = st.sampled_from(["snr", "depth", "unit_id"]), st.sampled_from(["area", "quality"])
SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
NUMBER = st.integers(-5, 110).map(str) | st.sampled_from(["0.5", "-1.0", "2.5"])
TEXT = st.sampled_from(["VISp", "good", "LP", "", "Z", "é"]).map(repr)


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=3).map(lambda each: f"[{', '.join(each)}]")


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(" ".join)


IN = st.sampled_from(["in", "not in"])
SIMPLE = st.one_of(
    joined(NUMBERS, SIGNS, NUMBER),
    joined(NUMBER, SIGNS, NUMBERS),
    joined(NUMBER, st.just("<"), NUMBERS, st.just("<="), NUMBER),
    joined(NUMBERS, SIGNS, NUMBERS),
    joined(TEXTS, st.sampled_from(["==", "!="]), TEXT),
    joined(st.just("area"), SIGNS, TEXT),  # which has no empty cell: pandas 1 orders none
    joined(NUMBERS, IN, listed(NUMBER)),
    joined(TEXTS, IN, listed(TEXT)),
    joined(st.just("is_good"), st.sampled_from(["==", "!="]), st.sampled_from(["True", "False"])),
    TEXT.map(lambda text: f"area.str.startswith({text})"),
    st.sampled_from(["area.str.contains('VIS')", "area.str.contains('p$|^L')", "area.str.contains('v', case=False)"]),
    st.sampled_from(["is_good", "snr.isna()", "quality.notna()", "nothing.isna()"]),
)


def together(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    both = st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda each: "({} {} {})".format(*each))
    signs = st.tuples(inner, st.sampled_from(["&", "|"]), inner).map(lambda each: "(({}) {} ({}))".format(*each))
    return both | signs | inner.map(lambda one: f"(not {one})") | inner.map(lambda one: f"(~({one}))")


@settings(max_examples=60)
@given(st.recursive(SIMPLE, together, max_leaves=6))
def test_rows_are_those_of_pandas(text: str) -> None:
    """What is taken means what it means to `DataFrame.query`: the same rows are found."""
    assert found(text) == TABLE.query(text, engine="python")["unit_id"].tolist()


ANY_COLUMN = st.sampled_from([*TABLE.columns, "other"])
ANY_VALUE = NUMBER | TEXT | st.sampled_from(["True", "False", "None", "1e999", "snr"])


@given(st.recursive(joined(ANY_COLUMN, SIGNS | st.just("in"), ANY_VALUE | listed(ANY_VALUE)) | ANY_COLUMN, together))
def test_rows_are_found_or_the_query_is_refused(text: str) -> None:
    """A query finds rows or is refused by a `UsageError`, whatever it compares."""
    with suppress(UsageError):
        found(text)


@pytest.mark.parametrize(
    ("columns", "units"),
    [
        *((["snr"], [5, 1, 2, 4, 3]), (["-snr"], [4, 2, 1, 5, 3]), (["-is_good", "area"], [4, 3, 1, 5, 2])),
        *((["quality"], [1, 4, 2, 3, 5]), ([], [1, 2, 3, 4, 5]), (["nothing"], [1, 2, 3, 4, 5])),
    ],
)
def test_order_of_rows(columns: Sequence[str], units: list[int]) -> None:
    """Rows are sorted by columns; empty cells come last in either direction, and what is equal keeps its order."""
    assert in_order(TABLE, columns, name="units")["unit_id"].tolist() == units


def test_order_by_an_unknown_column() -> None:
    """A column that is not there is answered with those that are near."""
    with pytest.raises(UnknownColumnError, match="no column snrr; near it: snr"):
        in_order(TABLE, ["-snrr"], name="units")
