"""What results are known by: the function, its source, the values that it was made with, and its arguments.

A Python function is known by its source, or by its bytecode where there is none, which is another one in another
Python; with it by its defaults and by what it uses of the functions around it. An object is known by what pickle
would be given of it, so that two that differ are two.
"""

import copyreg
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from tokenize import TokenError
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import numpy as np
import pandas as pd

from vbnfs.errors import ResultsError

PYTHON: Final = "python"  # of a manifest: the one whose bytecode counts
_LAMBDA: Final = "<lambda>"
_PICKLE: Final = 4  # the protocol that `__reduce_ex__` is asked for


def manifest_of(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a function and its arguments are known by. Raises `ResultsError` for what cannot be stored of them."""
    known = _Known()
    try:
        of_function = json.loads(json.dumps(known.function(function), default=known.value))
    except Exception as error:  # of what may be anybody's object
        raise ResultsError(
            f"the values that {_name(function)} was made with cannot be stored with the results:"
            f" {str(error) or type(error).__name__}: give them by arguments="
        ) from error
    try:
        stored = json.loads(json.dumps(dict(arguments), default=plain, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise ResultsError(
            f"the arguments cannot be stored with the results: {error}: give numbers, text, lists and dicts"
        ) from error
    python = {PYTHON: "{}.{}".format(*sys.version_info)} if known.has_bytecode else {}
    return {**of_function, **python, "arguments": stored}


def plain(value: Any) -> Any:
    """What JSON does not have, as what it has: scalars of NumPy, Series, sets. Raises `TypeError`."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, pd.Series):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not plain")


class _Known:
    """Finds out what things are known by, as JSON has it."""

    def __init__(self) -> None:
        self._seen = set[int]()  # functions that use themselves, or each other, by their ids
        self.has_bytecode = False  # it counts, for want of source

    def function(self, function: Any) -> dict[str, Any]:
        """A callable's name, its source, and the values that it was made with, the outermost first."""
        values = list[Any]()
        while not inspect.isfunction(function):
            if isinstance(function, partial):
                values.append({"args": function.args, "keywords": function.keywords})
                function = function.func
            elif inspect.ismethod(function):
                values.append({"self": function.__self__})
                function = function.__func__
            elif hasattr(function, "__wrapped__"):  # as of numba and functools.cache
                function = inspect.unwrap(function, stop=inspect.isfunction)
            elif not inspect.isclass(function) and inspect.isfunction(type(function).__call__):
                values.append({"self": function})
                function = type(function).__call__
            else:  # a class, or written in C
                return {
                    "function": _name(function),
                    "source": "",
                    "values": [*values, self.value(function)],
                }
        if id(function) in self._seen:
            return {"function": _name(function)}
        self._seen.add(id(function))
        values += [bound] if (bound := _bound(function)) else []
        return {"function": _name(function), "source": self._source(function), "values": values}

    def value(self, value: Any) -> Any:
        """What JSON does not have. Raises any error at all for what nothing is known of, as an open file."""
        match value:
            case set() | frozenset():
                return sorted(value, key=repr)
            case np.generic() | np.ndarray():
                return plain(value)
            case partial() | FunctionType() | MethodType():
                return self.function(value)
            case CodeType():
                names = [*value.co_names, *value.co_varnames, *value.co_freevars]
                return {
                    "code": (value.co_code + value.co_exceptiontable).hex(),
                    "names": names,
                    "of": value.co_consts,
                }
        return _of_object(value)

    def _source(self, function: Any) -> str:
        """A hash: of the source; of a lambda, whose line may have others, and of what was typed, of the code."""
        code = function.__code__
        try:
            text = "" if code.co_name == _LAMBDA else inspect.getsource(code)
        except (OSError, TypeError, SyntaxError, TokenError):
            text = ""
        self.has_bytecode |= not text
        return hashlib.sha256((text or json.dumps(code, default=self.value)).encode()).hexdigest()


def _of_object(value: Any) -> dict[str, Any]:
    """The name of a module or a class; of any other object, what makes it again, and of what."""
    if isinstance(value, ModuleType | type):
        return {type(value).__name__: _name(value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    made = copyreg.dispatch_table.get(type(value))
    parts: Any = value.__reduce_ex__(_PICKLE) if made is None else made(value)
    if isinstance(parts, str):
        return {"name": f"{getattr(value, '__module__', None) or ''}.{parts}"}
    maker, *rest = parts  # the last of which may be iterators
    return {"made by": _name(maker), "of": [list(one) if hasattr(one, "__next__") else one for one in rest]}


def _bound(function: Any) -> dict[str, Any]:
    """A Python function's defaults, and the variables that it uses of the functions around it, by name."""
    found = dict[str, Any]()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            found[name] = None
    defaults = {"defaults": function.__defaults__, "keyword defaults": function.__kwdefaults__}
    return found | {name: value for name, value in defaults.items() if value}


def _name(thing: Any) -> str:
    if isinstance(thing, partial):
        return _name(thing.func)
    if isinstance(thing, ModuleType):
        return thing.__name__
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or type(thing).__qualname__
    return f"{getattr(thing, '__module__', None) or ''}.{name}"
