"""The language in which rows of a table are asked for: a subset of pandas' (`DataFrame.query`), checked here (pure).

    condition = comparison | column "in" values | column "not in" values | test | column of True and False
              | condition "and" condition | condition "or" condition | "not" condition | "(" condition ")"
    comparison = operand (("==" | "!=" | "<" | "<=" | ">" | ">=") operand)+       0.5 < snr <= 3
    values     = "[" literal, ... "]", also with ( ) or { }
    test       = column ".isna()" | column ".notna()"
               | column ".str." ("contains" | "startswith" | "endswith") "(" text ")"
    literal    = a number, with a sign or without, a text in quotes, True, False

`contains` takes a regular expression (patterns.py), and `case=False` and `regex=False` as in pandas. `&`, `|` and `~`
join conditions in parentheses, as in pandas.

A text is parsed by Python's own parser (the module `ast`) and held against this list. Nothing of it is evaluated by
Python or pandas: `selection.py` works on the values that are made here. What is not on the list is refused, with its
place.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.errors import UsageError
from vbnfs.tables.patterns import why_not_taken

_MOST_CHARACTERS: Final = 4000
_LARGEST: Final = 2**63  # what a column of integers can hold
_MOST_LEVELS: Final = 60  # of parentheses, and of what is joined or denied
_SHOWN_CHARACTERS: Final = 60
_LONE_EQUALS: Final = re.compile(r"(?<![=!<>])=(?!=)")

Value = int | float | str | bool


class QueryError(UsageError):
    """A query that is not in the language, or does not fit the table. The message has the place, counted from 1."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a query: its text, and the number of its first character, from 1."""

    at: int
    text: str

    def error(self, reason: str) -> QueryError:
        """What is wrong here."""
        shown = self.text if len(self.text) <= _SHOWN_CHARACTERS else f"{self.text[:_SHOWN_CHARACTERS]}..."
        return QueryError(f"character {self.at}: {shown}: {reason}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that the query has."""

    value: Value
    place: Place


@dataclass(frozen=True, slots=True)
class Comparison:
    """`operator` is one of ==, !=, <, <=, >, >=. At least one of the two is a column."""

    left: Column | Literal
    operator: str
    right: Column | Literal


@dataclass(frozen=True, slots=True)
class Membership:
    """The value is one of several."""

    column: Column
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """The cell is empty."""

    column: Column


@dataclass(frozen=True, slots=True)
class TextTest:
    """`name` is contains, startswith or endswith."""

    column: Column
    name: str
    text: str
    minds_case: bool = True
    is_pattern: bool = False


@dataclass(frozen=True, slots=True)
class Truth:
    """The column itself says whether."""

    column: Column


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class Both:
    """All of them."""

    conditions: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of them."""

    conditions: "tuple[Condition, ...]"


Condition = Comparison | Membership | Missing | TextTest | Truth | Not | Both | Either


def parse_query(text: str) -> Condition:
    """What a query asks. Raises `QueryError`, which names what is refused and its place."""
    if len(text) > _MOST_CHARACTERS:
        raise QueryError(f"a query of {len(text):,} characters; at most {_MOST_CHARACTERS:,} are taken")
    line = text.translate({10: " ", 13: " "}).lstrip()
    if not line:
        raise QueryError("an empty query; write a condition, as in snr > 2")
    try:
        with warnings.catch_warnings(action="ignore"):  # such as of a backslash in a pattern: it is no Python
            tree = ast.parse(line, mode="eval")
        return _Reader(line, skipped=len(text) - len(line)).condition(tree.body)
    except SyntaxError as error:
        raise _unparsed(error, line, skipped=len(text) - len(line)) from None
    except (RecursionError, MemoryError):
        raise QueryError("a query that is nested too deeply") from None
    except ValueError as error:  # a null byte, in earlier Pythons
        raise QueryError(f"not a query: {error}") from None


def _unparsed(error: SyntaxError, line: str, *, skipped: int) -> QueryError:
    at = error.offset or len(line) + 1  # 0: it ends too early
    reason = "write == to compare" if _LONE_EQUALS.search(line) else f"{error.msg}"
    return Place(skipped + at, line[at - 1 :].strip() or "the end").error(reason)


def columns_of(condition: Condition) -> Iterator[Column]:
    """The columns that a query names, each as often as it stands there."""
    match condition:
        case Comparison(left, _, right):
            yield from (one for one in (left, right) if isinstance(one, Column))
        case Not(inner):
            yield from columns_of(inner)
        case Both(parts) | Either(parts):
            for part in parts:
                yield from columns_of(part)
        case _:
            yield condition.column


_COMPARISONS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_TEXT_TESTS: Final = ("contains", "startswith", "endswith")
_KNOWN_CALLS: Final = ".isna(), .notna(), .str.contains(), .str.startswith() and .str.endswith()"
_NOT_A_CONDITION: Final = "not a condition, as snr > 2 is"
# What is refused most often, and what to write instead.
_INSTEAD: Final[Mapping[type[ast.AST], str]] = {
    ast.Constant: _NOT_A_CONDITION,
    ast.BinOp: "no arithmetic is taken; compare a column with a value",
    ast.Attribute: f"no attributes are taken but {_KNOWN_CALLS}",
    ast.Call: f"no calls are taken but {_KNOWN_CALLS}",
    ast.Subscript: "no brackets are taken behind a name",
    ast.Lambda: "no functions are taken",
    ast.IfExp: "write 'and', 'or' and 'not'",
    ast.NamedExpr: "compare with ==",
    ast.JoinedStr: "write the text itself, in quotes",
}


def _count_texts(source: str) -> int:
    words = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(word.type == tokenize.STRING for word in words)


class _Reader:
    """Makes values of the parts of a syntax tree."""

    def __init__(self, line: str, *, skipped: int) -> None:
        self._line = line
        self._bytes = line.encode()
        self._skipped = skipped
        self._levels = 0

    def condition(self, node: ast.expr) -> Condition:
        """What a part asks. Raises `QueryError`."""
        if self._levels >= _MOST_LEVELS:
            raise self._place(node).error("nested too deeply")
        self._levels += 1
        found = self._condition(node)
        self._levels -= 1
        return found

    def _condition(self, node: ast.expr) -> Condition:
        match node:
            case ast.BoolOp(op, values):
                return self._joined(isinstance(op, ast.And), values)
            case ast.BinOp(left, ast.BitAnd() | ast.BitOr() as operator, right):
                return self._joined(isinstance(operator, ast.BitAnd), [left, right])
            case ast.UnaryOp(ast.Not() | ast.Invert(), operand):
                return Not(self.condition(operand))
            case ast.Compare():
                return self._compared(node)
            case ast.Call():
                return self._called(node)
            case ast.Name():
                return Truth(self._column(node))
        raise self._refused(node)

    def _joined(self, is_both: bool, parts: Sequence[ast.expr]) -> Condition:
        conditions = tuple(map(self.condition, parts))
        return Both(conditions) if is_both else Either(conditions)

    def _compared(self, node: ast.Compare) -> Condition:
        """`a < b < c` is `a < b and b < c`."""
        operands = [node.left, *node.comparators]
        pairs = zip(node.ops, operands, operands[1:], strict=False)
        conditions = tuple(self._compared_once(node, *pair) for pair in pairs)
        return conditions[0] if len(conditions) == 1 else Both(conditions)

    def _compared_once(self, node: ast.Compare, operator: ast.cmpop, left: ast.expr, right: ast.expr) -> Condition:
        if isinstance(operator, ast.In | ast.NotIn):
            found = self._member(left, right)
            return found if isinstance(operator, ast.In) else Not(found)
        if (sign := _COMPARISONS.get(type(operator))) is None:
            raise self._place(node).error("write == or !=, and .isna() for an empty cell")
        one, other = self._operand(left), self._operand(right)
        if isinstance(one, Literal) and isinstance(other, Literal):
            raise self._place(node).error("no column is compared")
        return Comparison(one, sign, other)

    def _member(self, left: ast.expr, right: ast.expr) -> Membership:
        if isinstance(right, ast.Name):
            value = self._place(left).text
            raise self._place(right).error(f"write {right.id}.str.contains({value}), or a list of values behind 'in'")
        if not isinstance(left, ast.Name):
            raise self._place(left).error("a column stands before 'in'")
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise self._place(right).error("a list of values stands behind 'in', as in ['VISp', 'VISl']")
        return Membership(self._column(left), tuple(map(self._literal, right.elts)))

    def _called(self, node: ast.Call) -> Condition:
        match node.func:
            case ast.Attribute(ast.Name() as name, "isna" | "isnull") if not node.args and not node.keywords:
                return Missing(self._column(name))
            case ast.Attribute(ast.Name() as name, "notna" | "notnull") if not node.args and not node.keywords:
                return Not(Missing(self._column(name)))
            case ast.Attribute(ast.Attribute(ast.Name() as name, "str"), test) if test in _TEXT_TESTS:
                return self._text_test(node, name, test)
        raise self._refused(node)

    def _text_test(self, node: ast.Call, name: ast.Name, test: str) -> TextTest:
        switches = {word.arg: word.value for word in node.keywords}
        if len(node.args) != 1 or switches.keys() - ({"case", "regex"} if test == "contains" else set()):
            takes = "one text, and case=False or regex=False" if test == "contains" else "one text"
            raise self._place(node).error(f".str.{test}() takes {takes}")
        text = self._literal(node.args[0])
        if not isinstance(text.value, str):
            raise text.place.error("a text in quotes is taken")
        minds_case, is_pattern = (self._switch(switches.get(word)) for word in ("case", "regex"))
        is_pattern = is_pattern and test == "contains"
        if is_pattern and (problem := why_not_taken(text.value)) is not None:
            raise text.place.error(problem)
        return TextTest(self._column(name), test, text.value, minds_case, is_pattern)

    def _switch(self, node: ast.expr | None) -> bool:
        if node is None:
            return True
        found = self._literal(node)
        if not isinstance(found.value, bool):
            raise found.place.error("True or False is taken")
        return found.value

    def _operand(self, node: ast.expr) -> Column | Literal:
        if isinstance(node, ast.Name):
            return self._column(node)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            raise self._place(node).error("write 'in' before a list of values")
        return self._literal(node)

    def _column(self, node: ast.Name) -> Column:
        return Column(node.id, self._place(node))

    def _literal(self, node: ast.expr) -> Literal:
        match node:
            case ast.UnaryOp(ast.USub() | ast.UAdd() as sign, ast.Constant(int() | float() as value)) if (
                not isinstance(value, bool)
            ):
                value = -value if isinstance(sign, ast.USub) else value
            case ast.Constant(int() | float() | str() as value):
                pass
            case ast.Constant(None):
                raise self._place(node).error("write .isna() or .notna() for an empty cell")
            case ast.Constant() | ast.Name():
                raise self._place(node).error("a number, a text in quotes, True or False is taken")
            case _:
                raise self._refused(node)
        place = self._place(node)
        if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise place.error("a number of more than 64 bits")
        if isinstance(value, str) and _count_texts(place.text) > 1:  # which Python takes for one
            raise place.error("a comma is missing between two texts")
        return Literal(value, place)

    def _refused(self, node: ast.expr) -> QueryError:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            # `a > 1 & b < 2` has `1 & b` in it for Python, and for pandas it has not.
            word = "and" if isinstance(node.op, ast.BitAnd) else "or"
            return self._place(node).error(f"write '{word}', or each condition in parentheses")
        return self._place(node).error(_INSTEAD.get(type(node), "not in the language of queries"))

    def _place(self, node: ast.expr) -> Place:
        start, end = node.col_offset, node.end_col_offset  # in bytes of UTF-8
        before = len(self._bytes[:start].decode())
        return Place(self._skipped + before + 1, self._bytes[start:end].decode())
