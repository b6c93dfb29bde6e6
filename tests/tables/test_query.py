"""The language of queries: what is taken, and how everything else is refused."""

import warnings
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.tables.patterns import why_not_taken
from vbnfs.tables.query import QueryError, columns_of, parse_query

TAKEN = [
    *("snr > 2", "2 < snr", "0.5 < snr <= 3", "-1 <= snr", "snr == +2", "mouse_id != 524000"),
    *("area == 'VISp'", 'area == "VISp"', "area in ['VISp', 'VISl']", "area not in ('VISp',)", "snr in {1, 2.5}"),
    *("is_good", "not is_good", "is_good == True", "~is_good", "a < b", "a == b == c"),
    *("(a > 1) & (b < 2) | ~(c == 3)", "a > 1 and (b < 2 or not c == 3)", "  a > 1", "a >\n1"),
    *("name.isna()", "name.notna()", "name.isnull() or name.notnull()"),
    *("name.str.contains('Sst')", "name.str.contains('S[st]+', case=False)", "name.str.contains('(', regex=False)"),
    *("name.str.startswith('S')", "name.str.endswith('t')", "größe > 1"),
]
# A query, the place of what is refused in it, and some words of the reason.
REFUSED = [
    ("__import__('os').system('id')", 1, "no calls"),
    ("exec('1')", 1, "no calls"),
    ("().__class__.__bases__ == 1", 1, "no attributes"),
    ("snr.__class__", 1, "no attributes"),
    ("snr.values == 1", 1, "no attributes"),
    ("snr.to_csv('/tmp/x')", 1, "no calls"),
    ("name.str.contains.__self__", 1, "no attributes"),
    ("name.str.replace('a', 'b') == 'c'", 1, "no calls"),
    ("name.apply(print)", 1, "no calls"),
    ("@secret == 1", 1, "invalid syntax"),
    ("snr > @limit", 7, "invalid syntax"),
    ("snr * 2 > 3", 1, "no arithmetic"),
    ("snr > 10 ** 10", 7, "no arithmetic"),
    ("a > 1 & b < 2", 5, "write 'and'"),
    ("a > 1 | b < 2", 5, "write 'or'"),
    ("snr[0] > 1", 1, "no brackets"),
    ("snr = 2", 5, "write == to compare"),
    ("(x := 3) > 2", 2, "compare with =="),
    ("lambda: 1", 1, "no functions"),
    ("[x for x in snr]", 1, "not in the language"),
    ("f'{snr}' == area", 1, "write the text itself"),
    ("snr if a else b", 1, "write 'and'"),
    ("await snr", 1, "not in the language"),
    ("'VISp' in areas", 11, "areas.str.contains('VISp')"),
    ("snr in 3", 8, "a list of values"),
    ("snr in [a, 1]", 9, "is taken"),
    ("1 in [1]", 1, "a column stands before 'in'"),
    ("snr == [1, 2]", 8, "write 'in'"),
    ("snr is None", 1, ".isna()"),
    ("snr == None", 8, ".isna()"),
    ("1 == 1", 1, "no column"),
    ("2", 1, "not a condition"),
    ("'VISp'", 1, "not a condition"),
    ("-snr > 1", 1, "not in the language"),
    ("snr == 1j", 8, "a number"),
    ("area in ['VISp' 'VISl']", 10, "a comma is missing"),
    ("name == b'x'", 9, "a number"),
    ("name == ...", 9, "a number"),
    ("snr > 99999999999999999999", 7, "64 bits"),
    ("name.str.contains(area)", 19, "is taken"),
    ("name.str.contains('a', flags=2)", 1, "takes one text"),
    ("name.str.contains(**a)", 1, "takes one text"),
    ("name.str.contains('a', case='no')", 29, "True or False"),
    ("name.str.startswith('a', na=True)", 1, "takes one text"),
    ("name.str.contains(3)", 19, "a text in quotes"),
    ("name.str.contains('(a+)+$')", 19, "behind a group"),
    ("   ü == 'ü' and snr * 2 > 3", 17, "no arithmetic"),
    ("snr > 2 snr", 9, "invalid syntax"),
    ("snr > 2 and", 12, "the end: invalid syntax"),
]
WITHOUT_PLACE = ["", "   ", "snr > 1 " + "and snr > 1 " * 1000, "-" * 3000 + "1 < snr", "not " * 900 + "snr"]


@pytest.mark.parametrize("text", TAKEN)
def test_what_is_taken(text: str) -> None:
    """Comparisons, lists, tests of text and of empty cells, and conditions joined in either way are taken."""
    assert list(columns_of(parse_query(text)))


@pytest.mark.parametrize("text", [r"area.str.contains('V\d')", "snr == 3and valid", r"area == '\d'"])
def test_python_does_not_warn(text: str) -> None:
    """What Python's parser would warn of is no matter of a user's, for nothing of a query is Python."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parse_query(text)
    assert caught == []


@pytest.mark.parametrize(("text", "at", "words"), REFUSED)
def test_what_is_refused(text: str, at: int, words: str) -> None:
    """What is not in the language is refused with its place, in characters, and with what to write instead."""
    with pytest.raises(QueryError) as caught:
        parse_query(text)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"character {at}: ")


@pytest.mark.parametrize("text", WITHOUT_PLACE)
def test_what_is_refused_as_a_whole(text: str) -> None:
    """Nothing, too much, and what is nested too deeply are refused."""
    with pytest.raises(QueryError):
        parse_query(text)


@given(
    st.text(st.sampled_from(list("snr area.str(contains)'\"[]{}<>=!&|~@*+-:,\\\n\0 é12")), max_size=60) | st.text()
)
def test_any_text_is_taken_or_refused(text: str) -> None:
    """A text is a query or is refused by a `QueryError`: nothing else happens."""
    with suppress(QueryError):
        parse_query(text)


@pytest.mark.parametrize(
    "pattern",
    [
        "VISp",
        "^VIS",
        "p$",
        "a.b",
        "VISp|VISl",
        "(VISp|VISl)$",
        "S.*t",
        "[A-Z]?[0-9]+",
        "a.*?b",
        "a?b?",
        r"\(ChR2\)",
        "[]+*?a]",
    ],
)
def test_patterns_that_are_taken(pattern: str) -> None:
    """Regular expressions with up to two repeats of a character or a class are taken, if one is a ?."""
    assert why_not_taken(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        *(("(a+)+$", "behind a group"), ("(a|aa)*b", "behind a group"), ("(a){9}", "behind a group")),
        *((".*.*.*x", "3 repeats"), ("a?" * 30 + "a" * 30, "30 repeats"), ("a{2}b{2}c{2}", "3 repeats")),
        *((".*.*b", "2 repeats of"), ("[A-Z]+[0-9]+", "2 repeats of"), ("a{2,}b{0,99}", "2 repeats of")),
        *(("(?:a)b", "(?...)"), ("(?i)a", "(?...)"), ("[", "not a regular"), ("*a", "not a regular")),
        *(("a{99999999999}", "not a regular"), ("a" * 201, "201 characters"), ("\\", "not a regular")),
    ],
)
def test_patterns_that_are_refused(pattern: str, words: str) -> None:
    """What can take longer than some times the square of a text is refused, and what is no regular expression."""
    assert words in str(why_not_taken(pattern))


@given(st.text(st.sampled_from(list("ab.[]^$()|*+?{}\\,12-")), max_size=30))
def test_any_pattern_is_taken_or_refused(pattern: str) -> None:
    """Every pattern is judged; one without a character that means something is taken."""
    reason = why_not_taken(pattern)
    assert reason is None or set(pattern) & set("[]()|*+?{}\\")
