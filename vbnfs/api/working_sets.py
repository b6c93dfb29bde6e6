"""Fetching, pinning, verifying, comparing and citing: the plans of access/, carried out for a program.

`in_version` is the version in which files are found that are asked for; None: the newest, or that of the settings.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pandas as pd
import trio

from vbnfs.access import citing
from vbnfs.access.dataset import Dataset
from vbnfs.access.differences import Report, make_report
from vbnfs.access.fetching import Plan, choose, fetch, plan_of
from vbnfs.access.pinning import Holder, PinRow, in_its_version, pin_rows, take_away
from vbnfs.access.project_tables import ProjectTables
from vbnfs.access.recorded import read_record
from vbnfs.access.room import raise_the_size_of
from vbnfs.access.session_files import OpenTables
from vbnfs.access.tree_files import Place, asked_files
from vbnfs.access.verifying import Finding, Outcome, check, verify
from vbnfs.access.versions import Versions
from vbnfs.access.wanted import Wanted
from vbnfs.access.whole_files import ReadWhole
from vbnfs.api.arguments import text, version_name
from vbnfs.api.citation import Citation
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.difference import Difference
from vbnfs.api.messages import in_python
from vbnfs.api.os_errors import as_os_errors
from vbnfs.api.progress import Progress, Showing, ShowProgress
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import Manifest
from vbnfs.dataset.names import LATEST, MANIFESTS
from vbnfs.tables.frames import of_rows

_FINDINGS = ("path", "outcome", "size_bytes", "detail")
_PINS = (
    *("name", "note", "made", "dataset_version", "files", "size_bytes", "here_bytes", "whole_files"),
    *("newest", "newer_files", "gone_files"),
)


def bring(
    connection: Connection,
    wanted: Wanted,
    in_version: str | None,
    *,
    pin: str | None = None,
    note: str | None = None,
    progress: ShowProgress = None,
) -> pd.DataFrame:
    """Fetch and check what is wanted; have a pin of a name hold it. A row for each file: see `frame_of`.

    Raises `CacheError` where there is no room, `PinError`, and `NotVerifiedError` where a file is not good and kept.
    """
    if note is not None:
        text(note, "a note", "for the figure")
    with as_os_errors(pin or "prefetch"):
        outcome = brought(connection, wanted, in_version, pin=pin, note=note, progress=progress)
        check(outcome, with_reason=True)
    return frame_of(outcome.findings)


def brought(
    connection: Connection,
    wanted: Wanted,
    in_version: str | None,
    *,
    pin: str | None = None,
    note: str | None = None,
    progress: ShowProgress = None,
    first: Progress | None = None,
) -> Outcome:
    """The same; what became of the files, whatever that is. Raises a `VbnfsError` where it does not come to that.

    `first`: see `Showing`.
    """
    with Showing(progress, first=first) as showing:
        return connection.run_showing(showing, _bring, wanted.check(), in_version, pin, note, showing)


async def _bring(
    parts: Parts, wanted: Wanted, in_version: str | None, pin: str | None, note: str | None, showing: Showing
) -> Outcome:
    where, holder = _place(parts, in_version), None
    if pin is not None:
        where = await trio.to_thread.run_sync(in_its_version, where, pin, wanted)
        holder = Holder(where.config, pin, note, wanted)
    versions = _versions(parts, where.config)
    async with parts.files.judging(where, trusts=True) as work:
        target = await choose(wanted, open_tables(parts), versions, work)
        hold = None if holder is None else holder.hold
        _, outcome = await fetch(
            where, work, target, show=_show_nothing, bar=showing.note, announce=_show_nothing, hold=hold
        )
        if holder is not None:
            await trio.to_thread.run_sync(holder.let_go_of_what_was_before, outcome)
    for portion in target.portions:
        await parts.files.check(portion.content)
    return outcome


def plan(connection: Connection, wanted: Wanted, in_version: str | None, *, is_pin: bool = False) -> Plan:
    """What fetching would do: bytes, time, room. Raises what finding the files raises, a `VbnfsError`."""
    return connection.run(_plan, wanted.check(), in_version, is_pin)


async def _plan(parts: Parts, wanted: Wanted, in_version: str | None, is_pin: bool) -> Plan:
    where = _place(parts, in_version)
    async with parts.files.judging(where, trusts=True) as work:
        target = await choose(wanted, open_tables(parts), _versions(parts, where.config), work)
        return await plan_of(where, target, is_pin=is_pin)


def pin_name(name: str) -> str:
    """The name of a pin. Raises `TypeError` for what is no text."""
    return text(name, "the name of a pin", "figure-2")


def unpin(connection: Connection, names: Sequence[str]) -> None:
    """Take pins away. Raises `PinError` for a name that there is not."""
    connection.run(_unpin, names)


async def _unpin(parts: Parts, names: Sequence[str]) -> None:
    await trio.to_thread.run_sync(take_away, parts.versions.dataset.config, names)


def pins(connection: Connection) -> pd.DataFrame:
    """All pins of the cache, a row each, by name."""
    rows, _ = connection.run(_pins)
    return of_rows((row.as_json() for row in rows), _PINS, index="name")


async def _pins(parts: Parts) -> tuple[list[PinRow], list[str]]:
    async def load(dataset: Dataset) -> Versions:
        return parts.versions

    return await pin_rows(parts.versions.dataset, (), load)


def verify_files(
    connection: Connection, paths: Sequence[str], *, is_fetched: bool, progress: ShowProgress = None
) -> pd.DataFrame:
    """Hash files of the dataset's tree at paths; without any, all that is complete. Returns what `frame_of` does."""
    with as_os_errors("verify"):
        return frame_of(verified(connection, paths, is_fetched=is_fetched, progress=progress).findings)


def verified(
    connection: Connection,
    paths: Sequence[str],
    *,
    is_fetched: bool,
    progress: ShowProgress = None,
    first: Progress | None = None,
) -> Outcome:
    """The same, as values. Raises a `VbnfsError`. `first`: see `Showing`."""
    with Showing(progress, first=first) as showing:
        return connection.run_showing(showing, _verify, paths, is_fetched, showing)


async def _verify(parts: Parts, paths: Sequence[str], is_fetched: bool, showing: Showing) -> Outcome:
    where = _place(parts, None)
    asked = await trio.to_thread.run_sync(asked_files, parts.versions, paths)
    async with parts.files.judging(where, trusts=False) as work:
        return await verify(
            work,
            asked,
            is_asked=bool(paths),
            fetch=is_fetched,
            show=_show_nothing,
            bar=showing.note,
            watch=showing.watch,
        )


def frame_of(findings: Sequence[Finding]) -> pd.DataFrame:
    """What became of files, a row each, by `path` (`v0.5.0/...`): `outcome`, `size_bytes` and `detail`.

    `outcome` is `good`, `no hash`, `not kept`, `mismatch`, `not complete`, `failed`, `no file`.
    """
    changed = (
        replace(one, path=one.path.removeprefix(f"{MANIFESTS}/"), detail=in_python(one.detail)) for one in findings
    )
    return of_rows((one.as_json() for one in changed), _FINDINGS, index="path")


def compare(connection: Connection, old: str | None, new: str, *, with_tables: bool) -> Difference:
    """What changed between two versions; `old` None: the one before. Raises `TypeError` for what names none."""
    older, newer = None if old is None else version_name(old), version_name(new) or LATEST
    with as_os_errors("diff"):
        return Difference(connection.run(_compare, older, newer, with_tables))


async def _compare(parts: Parts, old: str | None, new: str, with_tables: bool) -> Report:
    def read(versions: Versions) -> AbstractAsyncContextManager[ReadWhole]:
        return nullcontext(parts.whole)

    return await make_report(parts.versions, old, new, read=read if with_tables else None, note=_show_nothing)


def cite(connection: Connection, wanted: Wanted, in_version: str | None) -> Citation:
    """What is to be said in a paper of the files that are wanted."""
    with as_os_errors("cite"):
        return Citation(connection.run(_cite, wanted.check(), in_version))


async def _cite(parts: Parts, wanted: Wanted, in_version: str | None) -> list[citing.CitedVersion]:
    versions = _versions(parts, _place(parts, in_version).config)
    return await citing.of_wanted(versions, wanted, open_tables(parts))


def cite_record(config: Config, record: Path) -> Citation:
    """What is to be said of the files that a record names. Raises `RecordError`."""
    with as_os_errors(str(record)):
        return Citation(citing.of_record(config, read_record(record), str(record)))


def _place(parts: Parts, in_version: str | None) -> Place:
    config = parts.versions.dataset.config
    if in_version is not None:
        config = replace(config, dataset_version=in_version)
    is_stored = config.cache_size_bytes is None
    remedy = raise_the_size_of(config.cache_dir) if is_stored else "cache_size='{}' lets it take more"
    return Place(config, (), remedy)


def versions_in(parts: Parts, in_version: str | None) -> Versions:
    """The versions, of which that one is the default."""
    return _versions(parts, _place(parts, in_version).config)


def _versions(parts: Parts, config: Config) -> Versions:
    """The versions, of which that of a configuration is the default."""
    return replace(parts.versions, dataset=replace(parts.versions.dataset, config=config))


def open_tables(parts: Parts) -> OpenTables:
    """What opens the tables of a version, as they are open here."""

    def opened(manifest: Manifest) -> AbstractAsyncContextManager[ProjectTables]:
        return nullcontext(parts.tables_of(manifest))

    return opened


def _show_nothing(_: object) -> None:
    """What a command would write is in what is returned."""
