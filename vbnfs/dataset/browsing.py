"""Sessions by what the table of sessions says of them: the folders below `by/` in a mount (pure).

    by/mouse_id/530862/1044385384 -> ../../../behavior_ecephys_sessions/1044385384
    by/experience_level/Novel/structure/VISp/1044385384 -> ../../../../../behavior_ecephys_sessions/1044385384

Each key has a folder, each of its values one in that, and in there each of the other keys once more: two are nested.
The sessions are symbolic links to those at the top. Programs that walk a tree do not follow these, so none reads a
session twice.

It is made of the table's CSV alone, without pandas: a daemon imports none.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Final

from vbnfs.dataset.manifest import DataFile, Manifest, files_by_id, tables_of
from vbnfs.dataset.names import MAX_NAME_BYTES, check_name

BY: Final = "by"
_TABLE: Final = "ecephys_sessions"
_ID: Final = "ecephys_session_id"
_FILE_ID: Final = "file_id"
_STRUCTURE: Final = "structure"
_LISTS: Final = {"structure_acronyms": _STRUCTURE}  # columns with the text of a list, and the key of what is in it
_KEYS: Final = ("mouse_id", "sex", "genotype", "experience_level", "image_set", _STRUCTURE)
_IN_A_LIST: Final = re.compile(r"'([^']+)'")
_MOST_LINKS: Final = 500_000  # the real release has some 90,000
_MOST_IN_A_CELL: Final = 200
_NOT_IN_A_NAME: Final = re.compile(r"[/\x00-\x1f\x7f]")
_HASH_BYTES: Final = 4
_LONGEST_HASH_BYTES: Final = 20
_CUT_BYTES: Final = 200

# The folders, by their paths, and in each the links, by name: where they lead, from the folder.
Folders = Mapping[tuple[str, ...], Mapping[str, str]]

README_TEXT: Final = b"""\
Sessions by what project_metadata/ecephys_sessions.csv says of them:

  mouse_id/<mouse>/            experience_level/Novel/      structure/VISp/
  genotype/<genotype>/         image_set/<set>/             sex/F/

Within each of these folders the other keys stand once more, as in
experience_level/Novel/structure/VISp/. Sessions are links to those at the top.
In names of folders / is written as _.

Looking here asks S3 for nothing. So the folders are made when the table is in
the cache: read it once ('cat project_metadata/ecephys_sessions.csv', or
'vbnfs sessions'), and list this folder again after some seconds.
"""


def table_of(manifest: Manifest) -> DataFile | None:
    """The table by which a version's sessions can be browsed; None if it has none."""
    return tables_of(manifest).get(_TABLE)


def folders_of(manifest: Manifest, data: bytes) -> Folders:
    """The folders below `by`, from the bytes of the table. Raises `ValueError` for bytes that are no such table."""
    files, folders = files_by_id(manifest), dict[tuple[str, ...], dict[str, str]]()
    names, count = _Names(), 0
    for row in _rows(data):
        file = files.get(str(row.get(_FILE_ID)))
        if file is None:
            continue
        place = _session(file, str(row.get(_ID)))
        name = names.free("", place[-1], "/".join(place))
        pairs = [(key, names.of(key, value)) for key, value in _values(row)]
        for folder in _folders(pairs):
            folders.setdefault(folder, {})[name] = "../" * (len(folder) + 1) + "/".join(place)
            count += 1
            if count > _MOST_LINKS:
                raise ValueError(f"more than {_MOST_LINKS:,} links")
    return folders


def _rows(data: bytes) -> Iterator[dict[str, str]]:
    try:
        yield from csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), restval="")
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _session(file: DataFile, session: str) -> tuple[str, ...]:
    """The path at the top where a session's link leads: its folder, if it has one of its own."""
    folder = file.path[:-1]
    return folder if folder and folder[-1] == session else file.path


def _values(row: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for column, text in row.items():
        if column in _LISTS:
            values = dict.fromkeys(_IN_A_LIST.findall(text))
            if len(values) > _MOST_IN_A_CELL:
                raise ValueError(
                    f"{column} has {len(values):,} values in one cell; at most {_MOST_IN_A_CELL} are taken"
                )
            yield from ((_LISTS[column], value) for value in values)
        elif column in _KEYS and text:
            yield column, text


def _folders(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, ...]]:
    yield from pairs
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    for key, other in permutations(values, 2):
        yield from ((key, value, other, its_value) for value in values[key] for its_value in values[other])


class _Names:
    """The name of each value's folder, and of each session's link: another one for each value of a key."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], str] = {}

    def of(self, key: str, value: str) -> str:
        """The name of a folder. What cannot stand in a name is written as _, and a long one is cut."""
        return self.free(key, _safe(value), value)

    def free(self, key: str, name: str, value: str) -> str:
        """`name`, or that and a hash of the value, as long as it takes to be no other value's name."""
        hashes = (_with_hash(name, value, size) for size in range(_HASH_BYTES, _LONGEST_HASH_BYTES))
        names = (one for one in (name, *hashes) if self._values.setdefault((key, one.casefold()), value) == value)
        return next(names)


def _safe(value: str) -> str:
    name = _NOT_IN_A_NAME.sub("_", value.strip())
    name = f"_{name[1:]}" if name.startswith(".") else name
    try:
        check_name(name)
    except ValueError:
        name = "".join(one if one.isprintable() else "_" for one in name) or "_"
    return name if len(name.encode()) <= MAX_NAME_BYTES else _with_hash(name, value)


def _with_hash(name: str, value: str, hash_bytes: int = _HASH_BYTES) -> str:
    cut = name.encode()[:_CUT_BYTES].decode(errors="ignore")
    return f"{cut}~{hashlib.blake2b(value.encode(), digest_size=hash_bytes).hexdigest()}"
