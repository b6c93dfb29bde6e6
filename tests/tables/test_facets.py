"""Filters by values: what they are as a query, and how many rows each value would leave."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbnfs.tables.columns import UnknownColumnError
from vbnfs.tables.facets import Facet, facets_of, query_of, query_of_words
from vbnfs.tables.query import QueryError, parse_query
from vbnfs.tables.selection import matching

TABLE = pd.DataFrame({
    "ecephys_session_id": [1, 2, 3, 4, 5],
    "sex": ["F", "M", "M", "F", None],
    "session_number": [1, 2, 1, 2, 1],
    "has_lfp_data": [True, True, False, True, True],
    "structure_acronyms": ["['VISp', 'CA1']", "['VISpm']", "[]", "['CA1']", "['VISp', 'VISp']"],
    "genotype": ["it's \"a\"", "b", "b", "b", "b"],
    "age_in_days": [1.5, 2.5, 1.5, 2.5, 1.5],
    "note": ["u", "v", "w", "x", "y"],
})  # fmt: skip


def facets(chosen: dict[str, list[str]], query: str | None = None) -> dict[str, Facet]:
    """The facets of the table by their columns."""
    everything = pd.Series(data=True, index=TABLE.index)
    found = everything if query is None else matching(TABLE, parse_query(query), name="t")
    return {one.column: one for one in facets_of(TABLE, found, chosen, name="t")}


def counts(facet: Facet) -> dict[str, int]:
    return {value.text: value.rows for value in facet.values}


def rows(chosen: dict[str, list[str]]) -> int:
    """How many rows a choice leaves."""
    query = query_of(TABLE, chosen)
    return len(TABLE) if query is None else int(matching(TABLE, parse_query(query), name="t").sum())


def test_which_columns_are_facets() -> None:
    """Columns with few values that repeat, of text, truth, whole numbers and lists; not ids and measures."""
    found = facets({})
    assert list(found) == ["sex", "session_number", "has_lfp_data", "structure_acronyms", "genotype", "note"]
    assert counts(found["sex"]) == {"F": 2, "M": 2}
    assert counts(found["structure_acronyms"]) == {"CA1": 2, "VISp": 2, "VISpm": 1}


def test_of_many_areas_the_frequent_ones_come_first() -> None:
    """The values of lists are in the order of how many rows have them, and then by name, whatever is chosen."""
    table = pd.DataFrame({"areas": ["['APN', 'VISp', 'CA1']", "['VISp', 'CA1']", "['VISp', 'TH']", "['TH']"]})
    none = pd.Series(data=False, index=table.index)
    [facet] = facets_of(table, none, {}, name="t")
    assert [value.text for value in facet.values] == ["VISp", "CA1", "TH", "APN"]


def test_counts_are_those_under_the_other_filters() -> None:
    """What is chosen of a column changes the counts of all others, and not its own."""
    found = facets({"sex": ["'F'"]}, query="session_number > 0")
    assert counts(found["sex"]) == {"F": 2, "M": 2}
    assert counts(found["structure_acronyms"]) == {"CA1": 2, "VISp": 1, "VISpm": 0}
    assert [value.text for value in found["sex"].values if value.is_chosen] == ["F"]


def test_the_query_of_a_choice() -> None:
    """Values of a column are joined by `or`, columns by `and`; lists are asked by their text, with its quotes."""
    assert query_of(TABLE, {"sex": [], "genotype": []}) is None
    chosen = {"sex": ["'F'", "'M'"], "session_number": ["1"], "structure_acronyms": ["'VISp'", "'CA1'"]}
    assert query_of(TABLE, chosen) == (
        "sex in ['F', 'M'] and session_number == 1"
        " and (structure_acronyms.str.contains(\"'VISp'\", regex=False)"
        " or structure_acronyms.str.contains(\"'CA1'\", regex=False))"
    )
    assert rows(chosen) == 1


@settings(max_examples=30)
@given(st.data())
def test_a_count_is_what_choosing_leaves(data: st.DataObject) -> None:
    """For any choice, the count of a value is the number of rows when it alone is chosen of its column."""
    every = {column: [value.literal for value in facet.values] for column, facet in facets({}).items()}
    chosen = {column: data.draw(st.lists(st.sampled_from(values), unique=True)) for column, values in every.items()}
    column = data.draw(st.sampled_from(list(every)))
    value = data.draw(st.sampled_from(facets(chosen)[column].values))
    assert value.rows == rows({**chosen, column: [value.literal]})


@pytest.mark.parametrize("value", ["1 or True", "'F'] or sex in ['M'", "sex", "__import__('os')", "", "'", "'F' < 3"])
def test_what_is_no_value_is_refused(value: str) -> None:
    """A choice comes from an address: it is one literal, or an error."""
    with pytest.raises(QueryError):
        query_of(TABLE, {"sex": [value]})


def test_what_is_no_column_is_refused() -> None:
    """The error names columns that are near."""
    with pytest.raises(UnknownColumnError, match="near it: sex"):
        rows({"sexx": ["'F'"]})


def test_words_are_looked_for_in_all_texts() -> None:
    """Each word stands in a text of the row, in whichever column; one that stands nowhere finds nothing."""
    assert query_of_words(TABLE, "  ") is None
    query = query_of_words(TABLE, "visp F")
    assert query is not None
    found = matching(TABLE, parse_query(query), name="t")
    assert TABLE["ecephys_session_id"][found].tolist() == [1]
    nothing = query_of_words(TABLE, 'it\'s "not" there')
    assert nothing is not None
    assert not matching(TABLE, parse_query(nothing), name="t").any()


def test_columns_that_no_query_can_name() -> None:
    """They are no facets, and words are not looked for in them; with no other column of text that is said."""
    table = pd.DataFrame({"a b": ["u", "v"], "class": ["u", "v"], "sex": ["F", "M"]})
    everything = pd.Series([True, True])
    assert [facet.column for facet in facets_of(table, everything, {}, name="sessions")] == ["sex"]
    assert query_of_words(table, "u") == "sex.str.contains('u', case=False, regex=False)"
    with pytest.raises(QueryError, match="no column has text"):
        query_of_words(table[["a b", "class"]], "u")
    assert query_of_words(table[["a b"]], " ") is None
