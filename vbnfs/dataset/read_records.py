"""Records of what was read: the lines of their files, written and read (pure).

docs/records.md has the format. A record may come from anybody: every value of it is checked, and a line that is
none is counted and left out.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.dataset.names import check_printable, split_path
from vbnfs.errors import RecordError
from vbnfs.objects import ObjectVersion
from vbnfs.spans import Spans

FORMAT: Final = 1
MOST_LINE_BYTES: Final = 1 << 20
_MOST_TEXT: Final = 1100  # a key has 1024 bytes at the most
_MOST_DAMAGED: Final = 100  # lines before the first mount
_MOST_FILES: Final = 1_000_000
_MOST_SIZE: Final = 1 << 53  # JSON's numbers: RFC 8259, 6
_HASH: Final = re.compile(r"[0-9a-f]{128}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class MountLine:
    """The line with which a mount begins. `time` is as `_TIME` has it."""

    mount: str
    time: str
    bucket: str
    project: str
    dataset_version: str
    vbnfs_version: str

    def as_json(self) -> dict[str, Any]:
        """The line's values by name."""
        return {"record": FORMAT, **{name: getattr(self, name) for name in self.__slots__}}


@dataclass(frozen=True, slots=True)
class OpenLine:
    """What was read of a file by one open of it, since the line before; `open_number` is that of the open."""

    mount: str
    open_number: int
    version: ObjectVersion
    file_hash: str | None
    size_bytes: int
    dataset_versions: tuple[str, ...]
    program: str | None
    opened: str
    read: str | None
    ranges: Spans
    in_blocks: bool = False

    def as_json(self) -> dict[str, Any]:
        """The line's values by name."""
        return {
            "mount": self.mount,
            "open": self.open_number,
            "key": self.version.key,
            "version_id": self.version.version_id,
            "hash": self.file_hash,
            "size": self.size_bytes,
            "dataset_versions": list(self.dataset_versions),
            "program": self.program,
            "opened": self.opened,
            "read": self.read,
            "ranges": [list(pair) for pair in self.ranges],
            **({"in_blocks": True} if self.in_blocks else {}),
        }


def line_of(values: Mapping[str, Any]) -> bytes:
    """Values as a line of a record."""
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


@dataclass(slots=True)
class ReadFile:
    """A file that was read, by all opens of it together. `dataset_version` is the one for which it counts."""

    bucket: str
    project: str
    dataset_version: str
    version: ObjectVersion
    file_hash: str | None
    size_bytes: int
    dataset_versions: tuple[str, ...]
    ranges: Spans = field(default_factory=Spans)
    programs: set[str] = field(default_factory=set)
    opens: set[tuple[str, int]] = field(default_factory=set)
    times: set[str] = field(default_factory=set)  # the first, and the last

    @property
    def path(self) -> str:
        """Its place in the tree of its version."""
        return "/".join(split_path(self.version.key)[1:])

    def note(self, line: OpenLine) -> None:
        """Take what one line says."""
        for start, stop in line.ranges:
            self.ranges.add(start, stop)
        self.opens.add((line.mount, line.open_number))
        times = {*self.times, line.opened, line.read or line.opened}
        self.times = {min(times), max(times)}
        if line.program is not None:
            self.programs.add(line.program)


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record as a whole: its files in the order in which they were first read.

    `damaged` lines could not be read, and `lost` ones were not written.
    """

    files: Sequence[ReadFile]
    damaged: int = 0
    lost: int = 0

    @property
    def problem(self) -> str | None:
        """What is not in it, in words."""
        if not self.damaged and not self.lost:
            return None
        return f"{self.damaged:,} of its lines cannot be read, and {self.lost:,} were not written"

    def of(self, bucket: str, project: str) -> "ReadRecord":
        """The part that is of one dataset."""
        files = [file for file in self.files if (file.bucket, file.project) == (bucket, project)]
        return ReadRecord(files, self.damaged, self.lost)


def parse_record(lines: Iterable[bytes], name: str) -> ReadRecord:
    """The record in the lines of the file `name`. Raises `RecordError` where they are no record."""
    mounts, files = dict[str, MountLine](), dict[tuple[Any, ...], ReadFile]()
    damaged = lost = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            values = _values(line)
            if "record" in values:
                mount = _mount_line(values)
                mounts[mount.mount] = mount
            elif "lost" in values:
                lost += _count(values, "lost")
            else:
                _note(files, mounts, _open_line(values))
        except (ValueError, KeyError, RecursionError):
            damaged += 1
            if not mounts and damaged > _MOST_DAMAGED:
                break
    if not mounts:
        raise RecordError(f"{name}: not a record: 'vbnfs mount --record FILE' writes one")
    return ReadRecord(list(files.values()), damaged, lost)


def _note(files: dict[tuple[Any, ...], ReadFile], mounts: Mapping[str, MountLine], line: OpenLine) -> None:
    mount = mounts[line.mount]
    top, every = mount.dataset_version, line.dataset_versions
    counts_for = top if top in every or not every else max(every, key=DatasetVersion)
    identity = (mount.bucket, mount.project, counts_for, line.version, line.file_hash, line.size_bytes)
    if identity not in files and len(files) >= _MOST_FILES:
        raise ValueError("too many files")
    found = files.setdefault(
        identity,
        ReadFile(mount.bucket, mount.project, counts_for, line.version, line.file_hash, line.size_bytes, every),
    )
    found.note(line)


def _values(line: bytes) -> dict[str, Any]:
    if len(line) > MOST_LINE_BYTES:
        raise ValueError("too long")
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of what is read
    return values


def _mount_line(values: Mapping[str, Any]) -> MountLine:
    if values["record"] != FORMAT:
        raise ValueError("another format")
    texts = {name: _text(values, name) for name in MountLine.__slots__}
    _time(values, "time")
    return MountLine(**texts)


def _open_line(values: Mapping[str, Any]) -> OpenLine:
    size_bytes = _count(values, "size")
    version_id = values["version_id"]
    key = _text(values, "key")
    if len(split_path(key)) < 2:
        raise ValueError("a key without a folder")
    return OpenLine(
        mount=_text(values, "mount"),
        open_number=_count(values, "open"),
        version=ObjectVersion(key, None if version_id is None else _text(values, "version_id")),
        file_hash=_hash(values["hash"]),
        size_bytes=size_bytes,
        dataset_versions=tuple(_checked(one) for one in _list(values, "dataset_versions")),
        program=None if values["program"] is None else _text(values, "program"),
        opened=_time(values, "opened"),
        read=None if values["read"] is None else _time(values, "read"),
        ranges=Spans(_pair(pair, size_bytes) for pair in _list(values, "ranges")),
        in_blocks=values.get("in_blocks") is True,
    )


def _checked(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_TEXT:
        raise ValueError("not a text")
    check_printable(value)
    return value


def _text(values: Mapping[str, Any], name: str) -> str:
    return _checked(values[name])


def _time(values: Mapping[str, Any], name: str) -> str:
    text = _text(values, name)
    if _TIME.fullmatch(text) is None:
        raise ValueError("not a time")
    return text


def _hash(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or _HASH.fullmatch(value) is None):
        raise ValueError("not a hash")
    return value


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    found = values[name]
    if not isinstance(found, list):
        raise ValueError("not a list")  # noqa: TRY004 - of what is read
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_SIZE


def _count(values: Mapping[str, Any], name: str) -> int:
    value: int = values[name]
    if not _is_count(value):
        raise ValueError("not a count")
    return value


def _pair(value: Any, size_bytes: int) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_count, value)):
        raise ValueError("not a range")
    start, stop = value
    if not start < stop <= size_bytes:
        raise ValueError("not a range of this file")
    return start, stop
