"""Pinning files: what `vbnfs pin`, `unpin` and `pins` do, and Python's. The pins are in the cache (cache/pins.py)."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import trio

from vbnfs.access.cache_directory import is_there, prepare_cache_directory
from vbnfs.access.dataset import Dataset
from vbnfs.access.fetching import Target
from vbnfs.access.here import Here
from vbnfs.access.tree_files import Place
from vbnfs.access.verifying import GOOD, NO_HASH, Outcome
from vbnfs.access.versions import Versions
from vbnfs.access.wanted import Wanted, paths_by_content
from vbnfs.cache.pins import (
    Pin,
    PinnedFile,
    change_pin,
    check_name,
    let_go_of_what_was_before,
    pin_names,
    read_pin,
    read_pins,
    remove_pin,
)
from vbnfs.config.settings import Config
from vbnfs.dataset.contents import NamedContent
from vbnfs.errors import PinError, UsageError, VbnfsError

_KEPT: Final = frozenset({GOOD, NO_HASH})  # what becomes of a file that is whole and kept


@dataclass(frozen=True, slots=True)
class PinRow:
    """A pin, and what is so of it now. Sizes in bytes.

    `newer_files` have other contents in the `newest` version, `gone_files` are not in it; None: that is not known.
    """

    name: str
    note: str
    made: str
    dataset: str
    dataset_version: str
    asked: Mapping[str, Any]
    files: int
    size_bytes: int
    here_bytes: int
    whole_files: int
    newest: str | None
    newer_files: int | None
    gone_files: int | None

    def as_json(self) -> dict[str, Any]:
        """The row with its fields' names."""
        return {name: getattr(self, name) for name in self.__slots__}

    def newest_text(self) -> str:
        """What is otherwise in the newest version."""
        if self.newest is None:
            return "-"
        counts = {"newer": self.newer_files or 0, "gone": self.gone_files or 0}
        words = [f"{count:,} {name}" for name, count in counts.items() if count]
        return f"{' and '.join(words)} in {self.newest}" if words else "the same"


def dataset_of(config: Config) -> str:
    """How a pin names the dataset that it is of."""
    return f"{config.endpoint_url or 'AWS'} {config.bucket}/{config.project}"


# Pinning


def made_for(config: Config, name: str) -> Wanted:
    """What a pin was made for. Raises `PinError` if there is none of this name, or it does not say it."""
    return _asked_of(there(config, name))


def _asked_of(pin: Pin) -> Wanted:
    try:
        return Wanted.from_json(pin.asked)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise PinError(
            f"pin {pin.name}: what it was made for cannot be read, so its file is damaged, or of another vbnfs; it"
            f" still holds its files: 'vbnfs unpin {pin.name}' takes it away, then pin the files again"
        ) from error


def in_its_version(where: Place, name: str, wanted: Wanted) -> Place:
    """Where a pin finds what it holds: in its version, if it is there already, until it is moved.

    Raises `PinError` for a pin that holds something else, `UsageError` for what cannot name one.
    """
    known = _checked(where.config, name, wanted)
    return (
        where
        if known is None
        else replace(where, config=replace(where.config, dataset_version=known.dataset_version))
    )


def _checked(config: Config, name: str, wanted: Wanted) -> Pin | None:
    check_name(name)
    known = read_pin(config.cache_dir, name) if is_there(config.cache_dir) else None
    if known is not None and (known.dataset != dataset_of(config) or _asked_of(known) != wanted):
        raise PinError(
            f"pin {name}: it holds something else already ('vbnfs pins --json' says what): choose another name,"
            f" 'vbnfs pin --update {name}' for the newest version, or 'vbnfs unpin {name}' first"
        )
    return known


class Holder:
    """Has a pin hold what is wanted, before that is fetched. What it held before is held until all of that is here.

    `note` None: the one that it has. Methods raise a `VbnfsError`.
    """

    def __init__(self, config: Config, name: str, note: str | None, wanted: Wanted) -> None:
        self._config, self._name, self._note, self._wanted = config, name, note, wanted
        self._stored: Pin | None = None

    async def hold(self, target: Target) -> None:
        """Hold what was chosen."""
        change = partial(_after, _pin_of(self._config, self._name, target, self._wanted), self._note)
        self._stored = await trio.to_thread.run_sync(change_pin, self._config.cache_dir, self._name, change)

    def let_go_of_what_was_before(self, outcome: Outcome) -> None:
        """If all of it came and is kept. Waits for the disk."""
        if self._stored is not None and all(finding.outcome in _KEPT for finding in outcome.findings):
            let_go_of_what_was_before(self._config.cache_dir, self._stored)


def _after(new: Pin, note: str | None, before: Pin | None) -> Pin:
    """A pin that takes the place of another one, and holds what that held besides."""
    if before is not None:
        held = frozenset(before.sizes) | before.before
        new = replace(new, note=before.note, made=before.made, before=held)
    return new if note is None else replace(new, note=note)


def _pin_of(config: Config, name: str, target: Target, wanted: Wanted) -> Pin:
    version = target.found.dataset_version
    places = paths_by_content(target.versions, version)
    names = {_id_of(target.versions.dataset, node.content): path for path, node in target.found.files}
    files = tuple(
        PinnedFile(
            places.get(one.content_id, names.get(one.content_id, "?")), one.content_id, one.size_bytes, one.file_hash
        )
        for one in (portion.content for portion in target.portions)
    )
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Pin(name, "", made, dataset_of(config), version, wanted.as_json(), files)


def _id_of(dataset: Dataset, named: NamedContent) -> str:
    attributes = dataset.catalog.sizes.get(named)
    return named.content_id if attributes is None else named.with_attributes(attributes).content_id


# Moving


def to_move(config: Config, names: Sequence[str], dataset_version: str | None) -> list[tuple[str, Wanted]]:
    """The pins of these names (of the dataset, all, without any), and what they are to hold in another version.

    Without a `dataset_version` pins that are named are moved to the newest, and of the others those that were not
    made for a certain version.
    """
    found: list[tuple[str, Wanted]] = []
    for name in names or _names(config):
        held = there(config, name)
        wanted = _asked_of(held)
        if held.dataset != dataset_of(config):
            if names:
                raise PinError(f"pin {name}: it is of another dataset ({held.dataset}): name that with --dataset")
        elif names or wanted.dataset_version is None or dataset_version is not None:
            found.append((name, wanted.in_version(dataset_version)))
    return found


# Taking away


def take_away(config: Config, names: Sequence[str]) -> list[tuple[str, int]]:
    """Take pins away; their names, and how many bytes no other pin holds now. Raises `PinError` for none."""
    if is_there(config.cache_dir):
        prepare_cache_directory(config.cache_dir)
    known = _names(config)
    for name in names:
        if check_name(name) not in known:
            raise PinError(_no_pin_text(name, known))
    freed: list[tuple[str, int]] = []
    for name in names:
        sizes = _sizes_if_read(config, name)
        remove_pin(config.cache_dir, name)
        others = {content_id for pin in read_pins(config.cache_dir)[0] for content_id in pin.sizes}
        freed.append((name, sum(size for content_id, size in sizes.items() if content_id not in others)))
    return freed


def _names(config: Config) -> list[str]:
    return pin_names(config.cache_dir) if is_there(config.cache_dir) else []


def there(config: Config, name: str) -> Pin:
    """The pin of a name. Raises `PinError` where there is none, which names those that there are."""
    found = read_pin(config.cache_dir, name) if is_there(config.cache_dir) else None
    if found is None:
        raise PinError(_no_pin_text(name, _names(config)))
    return found


def _sizes_if_read(config: Config, name: str) -> dict[str, int]:
    try:
        return there(config, name).sizes
    except PinError:  # damaged: it is taken away all the same
        return {}


def _no_pin_text(name: str, names: Sequence[str]) -> str:
    known = f"there are: {', '.join(names)}" if names else "there are no pins: 'vbnfs pin NAME PATH...' makes one"
    return f"pin {name}: there is no such pin in this cache; {known}"


# Listing


async def pin_rows(
    dataset: Dataset, names: Sequence[str], load: Callable[[Dataset], Awaitable[Versions]]
) -> tuple[list[PinRow], list[str]]:
    """The pins, or those of these names; and what has to be known of them. Raises `PinError`.

    `load` gives the dataset's versions, with which they are compared.
    """
    config = dataset.config
    if names:
        pins, problems = [await trio.to_thread.run_sync(there, config, name) for name in names], list[PinError]()
    else:
        pins, problems = await trio.to_thread.run_sync(read_pins, config.cache_dir)
    notes = [str(problem) for problem in problems]
    versions: Versions | None = None
    if any(pin.dataset == dataset_of(config) for pin in pins):
        try:
            versions = await load(dataset)
            notes += versions.problems
        except VbnfsError as error:
            notes.append(f"what the newest version has is not known: {error}")
    rows = await trio.to_thread.run_sync(_rows, dataset, pins, versions)
    return rows, notes


def _rows(dataset: Dataset, pins: Sequence[Pin], versions: Versions | None) -> list[PinRow]:
    here = Here.of(dataset.config)
    return [_row(dataset, here, pin, versions) for pin in pins]


def _row(dataset: Dataset, here: Here, pin: Pin, versions: Versions | None) -> PinRow:
    newest, newer, gone = None, None, None
    if versions is not None and pin.dataset == dataset_of(dataset.config):
        newest, newer, gone = _compared(versions, pin)
    sizes = pin.sizes
    return PinRow(
        name=pin.name,
        note=pin.note,
        made=pin.made,
        dataset=pin.dataset,
        dataset_version=pin.dataset_version,
        asked=pin.asked,
        files=len(pin.files),
        size_bytes=sum(sizes.values()),
        here_bytes=sum(here.bytes_of(content_id, size) for content_id, size in sizes.items()),
        whole_files=sum(content_id in here.whole for content_id in sizes),
        newest=newest,
        newer_files=newer,
        gone_files=gone,
    )


def _compared(versions: Versions, pin: Pin) -> tuple[str, int, int]:
    """The newest version; how many files of a pin have other contents in it, and how many are not in it."""
    manifest = versions.manifest(None)
    there = {"/".join(file.path): file for file in manifest.files}
    newer = gone = 0
    for one in pin.files:
        file = there.get(one.path)
        if file is None:
            gone += 1
        elif one.file_hash is None or file.file_hash != one.file_hash:
            newer += _id_of(versions.dataset, versions.named.of(file)) != one.content_id
    return str(manifest.dataset_version), newer, gone
