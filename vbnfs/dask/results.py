"""What a function returned of each session: in memory, and in a folder that the next run goes on with.

    RESULTS/
      manifest.json       the function, its source and values, its arguments, the dataset and its version
      1044385384.json     the result of a session; .npz for arrays, .parquet for frames
      failed.json         the sessions of which it raised an error, with that

Each file is written as a whole: what is there is complete, whatever ends the run.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from vbnfs.api.extras import required
from vbnfs.dask.manifest import PYTHON, plain
from vbnfs.errors import ResultsError
from vbnfs.host.atomic import output_file
from vbnfs.host.syncing import sync_data

_MANIFEST: Final = "manifest.json"
_FAILED: Final = "failed.json"
_RESULT: Final = re.compile(r"(\d+)(\.\w+)")
_WHERE: Final = "name another folder, or delete this one"
_BY_BYTECODE: Final = "the bytecode of a lambda, or of what was typed, is Python {}'s: run it by that one, "


@dataclass(frozen=True, slots=True)
class Format:
    """How results are stored: the end of a file's name, and functions that write and read one.

    `save(path, value)` writes a file at a path that it is given, `load(path)` returns the value.

    >>> as_text = vbnfs.dask.Format(".txt", lambda path, value: path.write_text(str(value)), Path.read_text)
    """

    suffix: str
    save: Callable[[Path, Any], object]
    load: Callable[[Path], Any]


class Results(Mapping[int, Any]):
    """What a function returned, by session id. `failed` are the sessions of which it raised an error.

    >>> found = vbnfs.dask.Results({1044385384: {"units": 1, "rate": 2.0}})
    >>> found[1044385384]["units"], len(found.failed)
    (1, 0)
    >>> found.table.loc[1044385384].tolist()
    [1.0, 2.0]
    """

    def __init__(self, values: Mapping[int, Any], failures: Mapping[int, Mapping[str, str]] | None = None) -> None:
        self._values = dict(sorted(values.items()))
        self._failures = dict(sorted((failures or {}).items()))

    def __getitem__(self, session_id: int) -> Any:
        return self._values[session_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        failed = f", {len(self._failures)} failed" if self._failures else ""
        return f"<vbnfs.dask.Results of {len(self)} sessions{failed}>"

    @property
    def table(self) -> pd.DataFrame:
        """All results as one frame, by `ecephys_session_id`.

        Of dicts and Series each is a row, of frames each is several (the index has its own behind the session's),
        of anything else the column is `result`.
        """
        frames = {key: value for key, value in self._values.items() if isinstance(value, pd.DataFrame)}
        if frames and len(frames) == len(self):
            return pd.concat(frames, names=["ecephys_session_id"])
        rows = [
            dict(value) if isinstance(value, Mapping | pd.Series) else {"result": value} for value in self.values()
        ]
        return pd.DataFrame(rows, index=pd.Index(list(self), name="ecephys_session_id", dtype="int64"))

    @property
    def failed(self) -> pd.DataFrame:
        """The sessions of which there is no result, by `ecephys_session_id`: `error` and `traceback`."""
        rows = [[one["error"], one.get("traceback", "")] for one in self._failures.values()]
        index = pd.Index(list(self._failures), name="ecephys_session_id", dtype="int64")
        return pd.DataFrame(rows, index=index, columns=["error", "traceback"])


def read_results(folder: str | Path, *, stored_as: Format | None = None) -> Results:
    """What is in a folder of results, also while a run goes on. Raises `ResultsError`.

    >>> vbnfs.dask.read_results("no-folder")
    Traceback (most recent call last):
    vbnfs.errors.ResultsError: no-folder: no folder of results: it has no manifest.json
    """
    return ResultFolder(Path(folder), stored_as).read()


class ResultFolder:
    """A folder of results."""

    def __init__(self, path: Path, stored_as: Format | None = None) -> None:
        self._path, self._format = path, stored_as

    def open(self, manifest: Mapping[str, Any]) -> set[int]:
        """Begin, or go on with what is there: the ids of sessions that are done.

        Raises `ResultsError` where the folder is of something else.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            found = self._manifest()
            if found is None and any(self._path.iterdir()):
                raise ResultsError(f"{self._path}: it has other files than results: {_WHERE.partition(',')[0]}")
            if found is None:
                self._write(_MANIFEST, _json_of(manifest))
        except OSError as error:
            raise ResultsError(f"{self._path}: results cannot be stored: {error.strerror}") from error
        if found is not None:
            self._check(found, manifest)
        return set(self._files())

    def _check(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        before = {PYTHON: wanted.get(PYTHON), **found}
        differing = sorted(name for name in wanted if _ordered(before.get(name)) != _ordered(wanted[name]))
        if differing:
            where = _BY_BYTECODE.format(before[PYTHON]) if PYTHON in differing else ""
            raise ResultsError(f"{self._path}: these results are of another {', '.join(differing)}: {where}{_WHERE}")

    def add(self, session_id: int, value: Any) -> None:
        """Store a result. Raises `ResultsError` where that cannot be."""
        try:
            self._save(session_id, self._format or _format_of(value), value)
        except OSError as error:
            raise ResultsError(f"{self._path}: the result cannot be stored: {error}") from error
        except Exception as error:  # of what may be any library's, or the user's own: the other sessions go on
            raise ResultsError(
                f"session {session_id}: the result cannot be stored: {str(error) or type(error).__name__}: return"
                " numbers, text, lists, dicts, arrays or frames, or give stored_as="
            ) from error

    def _save(self, session_id: int, one: Format, value: Any) -> None:
        temporary = self._path / f".{os.urandom(4).hex()}{one.suffix}"  # some writers go by the suffix
        try:
            one.save(temporary, value)
            with temporary.open("rb+") as written:
                sync_data(written.fileno())
            temporary.replace(self._path / f"{session_id}{one.suffix}")
        finally:
            temporary.unlink(missing_ok=True)

    def note_failures(self, failures: Mapping[int, Mapping[str, str]], *, of: Set[int]) -> None:
        """Store of which sessions there is no result, and why, anew for these; what is known of others stays."""
        before = self._failures()
        after = {one: failure for one, failure in before.items() if one not in of} | dict(failures)
        if after != before:
            self._write(_FAILED, _json_of({str(one): dict(failure) for one, failure in sorted(after.items())}))

    def read(self, *, of: Set[int] | None = None) -> Results:
        """All results, or those of these sessions. Raises `ResultsError`."""
        if self._manifest() is None:
            raise ResultsError(f"{self._path}: no folder of results: it has no {_MANIFEST}")
        files, failures = self._files(), self._failures()
        asked = files.keys() | failures.keys() if of is None else of
        return Results(
            {one: self._load(path) for one, path in files.items() if one in asked},
            {one: failure for one, failure in failures.items() if one in asked - files.keys()},
        )

    def _failures(self) -> dict[int, Mapping[str, str]]:
        failed = self._path / _FAILED
        found = json.loads(failed.read_text(encoding="utf-8")) if failed.exists() else {}
        return {int(one): failure for one, failure in found.items()}

    def _load(self, path: Path) -> Any:
        one = self._format or next((known for known in KNOWN if known.suffix == path.suffix), None)
        if one is None:
            raise ResultsError(f"{path}: results that end in {path.suffix} were stored by stored_as=: give the same")
        try:
            return one.load(path)
        except Exception as error:  # as of storing
            why = str(error) or type(error).__name__
            raise ResultsError(
                f"{path}: this result cannot be read: {why}: delete it, and run the same again"
            ) from error

    def _files(self) -> dict[int, Path]:
        found = ((_RESULT.fullmatch(path.name), path) for path in sorted(self._path.iterdir()))
        return {int(match[1]): path for match, path in found if match is not None}

    def _manifest(self) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = json.loads((self._path / _MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise ResultsError(f"{self._path / _MANIFEST}: no manifest of results: {error}") from error
        return found

    def _write(self, name: str, data: bytes) -> None:
        with output_file(self._path / name) as out:
            out.write(data)


def _format_of(value: Any) -> Format:
    """How a value is stored, by its kind."""
    if isinstance(value, pd.DataFrame):
        return _PARQUET
    is_mapping = isinstance(value, Mapping)
    if isinstance(value, np.ndarray) or (is_mapping and any(isinstance(one, np.ndarray) for one in value.values())):
        return _NPZ
    return _JSON


def _json_of(value: Any) -> bytes:
    return (json.dumps(value, default=plain, indent=1) + "\n").encode()


def _ordered(value: Any) -> str:
    """As text, in which a number that is none is equal to itself."""
    return json.dumps(value, sort_keys=True)


def _save_json(path: Path, value: Any) -> None:
    path.write_bytes(_json_of(value))


def _load_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _save_arrays(path: Path, value: Any) -> None:
    named = {"": value} if isinstance(value, np.ndarray) else dict(value)
    arrays = {f"result{name and '.'}{name}": _plain_array(name, one) for name, one in named.items()}
    with path.open("wb") as out:
        np.savez(out, **arrays)  # type: ignore[arg-type]


def _plain_array(name: Any, value: Any) -> np.ndarray[Any, Any]:
    """An array that a file takes without a pickle, and without losing anything. Raises `TypeError`."""
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(f"the array {name or 'returned'} has objects")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"the array {name or 'returned'} is masked: fill it (numpy.ma.filled)")
    return array


def _load_arrays(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as file:
        found = {name.partition(".")[2]: file[name] for name in file.files}
    return found[""] if set(found) == {""} else found


def _save_frame(path: Path, value: pd.DataFrame) -> None:
    required("pyarrow", "vbnfs.dask.map_sessions", "'vbnfs[dask]'")
    value.to_parquet(path)


_JSON: Final = Format(".json", _save_json, _load_json)
_NPZ: Final = Format(".npz", _save_arrays, _load_arrays)
_PARQUET: Final = Format(".parquet", _save_frame, pd.read_parquet)
KNOWN: Final = (_JSON, _NPZ, _PARQUET)
