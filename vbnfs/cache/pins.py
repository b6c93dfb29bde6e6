"""Pins: contents that are kept whatever else has to go, by name, for all processes on a cache directory.

    pins-v1/<name>.pin      a line of JSON (name, note, when and what was asked for); then a line for each file:
                            content id, size in bytes, file hash or `-`, path in the dataset version

A pin is replaced as a whole, so a crash leaves the earlier one or the later one. Who changes one has `pins-v1/.lock`
locked from reading it to storing it, so no change of another process is lost. A content that a pin holds needs not
be cached: it is held from the moment on when it is pinned, while it is being fetched, too. Eviction reads the folder
again when it has changed. What cannot be read holds what it held when this process read it last; as long as a process
has never read it, that process evicts nothing.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from vbnfs.cache.evicting import no_eviction
from vbnfs.errors import PinError, UsageError
from vbnfs.host.atomic import replace_file
from vbnfs.host.locks import lock_patiently
from vbnfs.host.places import Place, folder_at
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce

FORMAT: Final = "pins-v1"
_SUFFIX: Final = ".pin"
_LOCK: Final = ".lock"
_PATIENCE_SECONDS: Final = 30.0  # with another process that stores a pin, and may wait for an eviction
_NAME: Final = re.compile(r"\w[\w.+-]{0,59}")
_NO_HASH: Final = "-"
READABLE_AGAIN: Final = (
    f"make the folder {FORMAT} in the cache readable for you again, or delete it, and with it all pins"
)
_ID: Final = re.compile(rb"[0-9a-f]+(?= )")
_KEPT_TOO: Final = b"# "  # a line of a content that is held until an update has ended


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file that a pin holds. `path` is its place in the dataset version; `file_hash` None: none is known."""

    path: str
    content_id: str
    size_bytes: int
    file_hash: str | None


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin. `made` is in UTC (ISO 8601), `dataset` names the dataset, `asked` is what was asked for, as JSON.

    `before` are ids of contents that are held besides, until an update has ended.
    """

    name: str
    note: str
    made: str
    dataset: str
    dataset_version: str
    asked: Mapping[str, Any]
    files: tuple[PinnedFile, ...]
    before: Set[str] = field(default_factory=frozenset)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of its contents, by id: each content once."""
        return {file.content_id: file.size_bytes for file in self.files}


def check_name(name: str) -> str:
    """The name. Raises `UsageError` for one that no pin can have."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot name a pin: a letter or a digit, then at most 59 letters, digits or . _ + -;"
            " name the pin before the files"
        )
    return name


def store_pin(directory: Path | Place, pin: Pin) -> None:
    """Have a pin hold, for all processes. Raises `PinError` if it cannot be stored.

    An eviction that has chosen already is waited for: what is there afterwards stays.
    """
    with _stored_by_us(folder_at(directory), pin.name):
        _store(folder_at(directory), pin)


def change_pin(directory: Path | Place, name: str, change: Callable[[Pin | None], Pin | None]) -> Pin | None:
    """Store what `change` makes of a pin, which no other process changes meanwhile; None leaves it as it is.

    Returns what was stored. Raises `PinError` as `store_pin` and `read_pin` do.
    """
    with _stored_by_us(folder_at(directory), name):
        if (new := change(read_pin(directory, name))) is not None:
            _store(folder_at(directory), new)
        return new


def _store(directory: Place, pin: Pin) -> None:
    with no_eviction(directory):
        replace_file(_place(directory, pin.name), b"".join(_lines(pin)))


@contextmanager
def _stored_by_us(directory: Place, name: str) -> Iterator[None]:
    try:
        with _changing(directory, name):
            yield
    except OSError as error:
        raise PinError(f"pin {name}: cannot be stored in the cache: {error.strerror or error}") from error


def let_go_of_what_was_before(directory: Path | Place, stored: Pin) -> None:
    """Hold only the files of a pin that was stored, unless another process has changed it since, or taken it away."""

    def without(now: Pin | None) -> Pin | None:
        is_ours = now is not None and list(_lines(now)) == list(_lines(stored))
        return replace(stored, before=frozenset()) if is_ours and stored.before else None

    change_pin(directory, stored.name, without)


def remove_pin(directory: Path | Place, name: str) -> None:
    """Have a pin hold nothing any more. Raises `PinError` where it cannot be deleted. It may be gone already."""
    try:
        with _changing(folder_at(directory), name):
            _place(directory, name).unlink(missing_ok=True)
    except OSError as error:
        raise PinError(f"pin {name}: cannot be deleted: {error.strerror or error}") from error


@contextmanager
def _changing(directory: Place, name: str) -> Iterator[None]:
    """While entered, no other process changes pins, as far as locks can be had. Raises `OSError`, `PinError`."""
    lock = directory / FORMAT / _LOCK
    lock.parent.mkdir()
    descriptor = lock.open(os.O_RDWR | os.O_CREAT)
    try:
        is_locked = True
        with suppress(OSError):  # a file system without locks
            is_locked = lock_patiently(descriptor, _PATIENCE_SECONDS)
        if not is_locked:
            raise PinError(f"pin {name}: another vbnfs is changing pins, and does not end: wait for it, or end it")
        yield
    finally:
        os.close(descriptor)


def read_pin(directory: Path | Place, name: str) -> Pin | None:
    """A pin; None if there is none of this name. Raises `PinError` for one that cannot be read."""
    try:
        data = _place(directory, name).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PinError(f"pin {name}: cannot be read: {error.strerror or error}") from error
    try:
        return _parsed(name, data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PinError(
            f"pin {name}: its file is damaged; it still holds the files whose lines can be read: 'vbnfs unpin {name}'"
            " takes it away, then pin the files again"
        ) from error


def pin_names(directory: Path | Place) -> list[str]:
    """The names of all pins, sorted. Raises `PinError` where the folder cannot be read."""
    try:
        return sorted(_signatures(folder_at(directory) / FORMAT))
    except OSError as error:
        raise PinError(f"{folder_at(directory)}: pins cannot be read: {error.strerror or error}") from error


def read_pins(directory: Path | Place) -> tuple[list[Pin], list[PinError]]:
    """All pins by name, and what is wrong with those that cannot be read. Raises `PinError` as `pin_names` does."""
    pins, problems = list[Pin](), list[PinError]()
    for name in pin_names(directory):
        try:
            pin = read_pin(directory, name)
        except PinError as error:
            problems.append(error)
        else:
            pins += [] if pin is None else [pin]
    return pins, problems


def are_there(directory: Path | Place) -> bool:
    """Whether there are pins, as far as the disk says."""
    try:
        return bool(_signatures(folder_at(directory) / FORMAT))
    except OSError:
        return False


def pinned_ids(directory: Path | Place) -> Set[str]:
    """The ids of all contents that pins hold. Raises `PinError` where a pin, or the folder, cannot be read."""
    pins = PinnedIds(directory)
    held = pins.now()
    if pins.unread is not None:
        raise unread_error(pins.unread)
    return held


def unread_error(reason: str) -> PinError:
    """For a command that would delete, where pins cannot be read."""
    return PinError(f"{reason}, so nothing is deleted: {READABLE_AGAIN}")


def pinned_sizes(directory: Path | Place) -> dict[str, int]:
    """The contents that pins hold: sizes in bytes by content id. Raises `PinError` as `pin_names` does."""
    return {content_id: size for pin in read_pins(directory)[0] for content_id, size in pin.sizes.items()}


_Known = tuple[tuple[int, ...], frozenset[str]]  # what differs when a pin's file is another one; the ids in it


class PinnedIds:
    """The ids of all contents that pins of a cache directory hold. To be called from threads, one at a time.

    `unread`: what could not be read now, nor ever before, and why; None if that is nothing.
    """

    def __init__(self, directory: Path | Place) -> None:
        self.unread: str | None = None
        self._folder = folder_at(directory) / FORMAT
        self._known: dict[str, _Known] | None = None  # by name; None until the folder was read
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)

    def now(self) -> Set[str]:
        """As they are now; where the disk does not say, as they were found last."""
        try:
            signatures = _signatures(self._folder)
        except OSError as error:
            self._warn_once("pins cannot be read; those that are known hold", reason=str(error))
            if self._known is None:
                self.unread = f"{self._folder}: pins cannot be read: {error.strerror or error}"
        else:
            self.unread = None
            found = {name: self._read(name, signature) for name, signature in signatures.items()}
            self._known = {name: one for name, one in found.items() if one is not None}
        return frozenset().union(*(ids for _, ids in (self._known or {}).values()))

    def _read(self, name: str, signature: tuple[int, ...]) -> _Known | None:
        known = (self._known or {}).get(name)
        if known is not None and known[0] == signature:
            return known
        try:
            return signature, frozenset(_ids((self._folder / f"{name}{_SUFFIX}").read_bytes()))
        except FileNotFoundError:  # taken away meanwhile
            return signature, frozenset()
        except OSError as error:
            self._warn_once("a pin cannot be read; it holds what it held", key=name, pin=name, reason=str(error))
            if known is None:
                self.unread = f"pin {name}: cannot be read: {error.strerror or error}"
                return None
            return (), known[1]


def _place(directory: Path | Place, name: str) -> Place:
    return folder_at(directory) / FORMAT / f"{check_name(name)}{_SUFFIX}"


def _signatures(folder: Place) -> dict[str, tuple[int, ...]]:
    """By the name of each pin, what differs when its file is another one. Raises `OSError`."""
    found: dict[str, tuple[int, ...]] = {}
    with suppress(FileNotFoundError), folder.opened() as opened:
        for entry in opened.scan():
            name = entry.name.removesuffix(_SUFFIX)
            if name != entry.name and _NAME.fullmatch(name):
                with suppress(FileNotFoundError):  # taken away meanwhile
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found[name] = status.st_ino, status.st_mtime_ns, status.st_size
    return found


def _lines(pin: Pin) -> Iterator[bytes]:
    header = {
        "note": pin.note,
        "made": pin.made,
        "dataset": pin.dataset,
        "dataset_version": pin.dataset_version,
        "asked": pin.asked,
    }
    yield json.dumps(header).encode() + b"\n"
    for file in pin.files:
        words = (file.content_id, str(file.size_bytes), file.file_hash or _NO_HASH, file.path)
        yield " ".join(words).encode("utf-8", "surrogateescape") + b"\n"
    for content_id in sorted(pin.before):
        yield _KEPT_TOO + content_id.encode() + b" \n"


def _ids(data: bytes) -> Iterator[str]:
    """The contents that a pin's file holds: of each line that can be read, whatever the others are."""
    for line in data.split(b"\n")[1:]:
        if match := _ID.match(line.removeprefix(_KEPT_TOO)):
            yield match[0].decode()


def _parsed(name: str, data: bytes) -> Pin:
    """Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    header, *lines = data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
    asked = json.loads(header)
    texts = {key: _text(asked[key]) for key in ("note", "made", "dataset", "dataset_version")}
    kept_too = _KEPT_TOO.decode()
    files = tuple(_file(line) for line in lines if not line.startswith(kept_too))
    before = frozenset(line.removeprefix(kept_too).strip() for line in lines if line.startswith(kept_too))
    return Pin(name=name, **texts, asked=dict(asked["asked"]), files=files, before=before)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _file(line: str) -> PinnedFile:
    content_id, size, file_hash, path = line.split(" ", 3)
    return PinnedFile(path, content_id, int(size), None if file_hash == _NO_HASH else file_hash)
