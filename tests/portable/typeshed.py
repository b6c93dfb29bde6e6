"""What Python's library has on a system, as typeshed says it, which is checked there against Python itself.

Typeshed is what mypy goes by: `if sys.platform == "win32":` stands in its stubs around what Windows alone has.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, Literal

import mypy

System = Literal["linux", "darwin", "win32"]

_STUBS: Final = Path(mypy.__path__[0]) / "typeshed" / "stdlib"


@cache
def names_of(module: str, system: System, *, of_class: str | None = None) -> frozenset[str]:
    """The names in a module, or in a class of it; none where the system lacks the module."""
    body = _body(module, system)
    if of_class is not None:
        [found] = [each for each in body if isinstance(each, ast.ClassDef) and each.name == of_class]
        body = list(_statements(found.body, system))
    return frozenset(name for each in body for name in _defined_by(each))


def lacking(module: str, system: System, *, of_class: str | None = None) -> frozenset[str]:
    """What Linux has in a module, and the system has not."""
    return names_of(module, "linux", of_class=of_class) - names_of(module, system, of_class=of_class)


def has_module(module: str, system: System) -> bool:
    """Whether a system has a module: the stub of one that it lacks only imports there."""
    return any(not isinstance(each, ast.Import | ast.ImportFrom) for each in _body(module, system))


@cache
def _body(module: str, system: System) -> list[ast.stmt]:
    path = _STUBS / f"{module}.pyi"
    path = path if path.exists() else _STUBS / module / "__init__.pyi"
    return list(_statements(ast.parse(path.read_text(encoding="utf-8")).body, system))


def _statements(body: list[ast.stmt], system: System) -> Iterator[ast.stmt]:
    for each in body:
        if isinstance(each, ast.If):
            yield from _statements(each.body if _holds(each.test, system) else each.orelse, system)
        else:
            yield each


def _holds(test: ast.expr, system: System) -> bool:
    match test:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_holds(each, system) for each in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_holds(each, system) for each in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _holds(operand, system)
    known = {"sys.platform": system, "sys.version_info": sys.version_info}
    left = ast.unparse(test.left) if isinstance(test, ast.Compare) else ""
    assert left in known, ast.unparse(test)
    return bool(eval(ast.unparse(test), {"sys": _Sys(system)}))  # of typeshed's own conditions


class _Sys:
    version_info = sys.version_info

    def __init__(self, platform: str) -> None:
        self.platform = platform


def _defined_by(each: ast.stmt) -> Iterator[str]:
    match each:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names)
