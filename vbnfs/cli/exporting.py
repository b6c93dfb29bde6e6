"""What `vbnfs export` does: files of a dataset version go into a folder that needs neither vbnfs nor network.

What is wanted and where it goes is found out first (`_plan`), and refused before anything is copied. Then the files
are brought one after the other (export_work.py). So an export that was interrupted goes on where it was.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.tree_files import Place
from vbnfs.access.versions import Versions
from vbnfs.access.wanted import Found, Wanted, find
from vbnfs.blocks import blocks_of
from vbnfs.cli.export_findings import NOT_HERE, Exported, Plan, Reports
from vbnfs.cli.export_folder import ExportFolder
from vbnfs.cli.export_links import Way, way_of
from vbnfs.cli.export_target import Target, check_lengths, check_names, check_room, check_target
from vbnfs.cli.export_work import Files, Item, Work, in_thread
from vbnfs.cli.file_finding import Finding
from vbnfs.cli.render import files as files_text
from vbnfs.cli.running import load_aloud, open_tables
from vbnfs.cli.verify import run_showing
from vbnfs.dataset.allensdk import release_folders
from vbnfs.dataset.manifest import DataFile, tables_of
from vbnfs.errors import ExportError, UsageError
from vbnfs.objects import ByteRange, Content


@dataclass(frozen=True, slots=True)
class Ways:
    """How to export. `dry_run`: find out what would be done; `link`: copy no bytes; `umask`: that of the user."""

    dry_run: bool = False
    link: bool = False
    umask: int = 0o022


def run(where: Place, folder: Path, wanted: Wanted, *, ways: Ways, reports: Reports) -> Exported:
    """Export what is wanted.

    Raises `ExportError` for a folder that cannot take it, and where it takes no more; what is there by then stays.
    """
    return run_showing(lambda show: _export(where, folder, wanted, ways, replace(reports, show=show)), reports.show)


async def _export(where: Place, folder: Path, wanted: Wanted, ways: Ways, reports: Reports) -> Exported:
    target = await in_thread(partial(check_target, folder, cache_dir=where.config.cache_dir))
    async with open_dataset(where.config) as dataset:
        versions = await load_aloud(dataset)
        found = await find(versions, wanted, open_tables(versions))
        files = await _files(versions, found)
        way = await in_thread(way_of, target, files.manifest, dataset) if ways.link else Way()
        out = ExportFolder(target.top, umask=ways.umask)
        plan, lacking = await in_thread(_plan, files, found, target, out, way)
        reports.announce(plan)
        for item in lacking:
            reports.show(Finding(item.name, NOT_HERE, item.content.size_bytes))
        problem = _lacking_text(lacking, len(files.items))
        if ways.dry_run or problem is not None:
            return Exported(plan, (), problem)
        await trio.to_thread.run_sync(dataset.verdicts.refresh)
        async with _opened(out), dataset.fetching() as (source, services):
            work = Work(dataset, files, out, way, reports, source=source, services=services)
            return Exported(plan, await work.bring_all())


async def _files(versions: Versions, found: Found) -> Files:
    """The files of the version: those that were found, and the tables, which AllenSDK reads first."""
    manifest = versions.manifest(found.dataset_version)
    folders = {id(one): name for name, one in release_folders(versions.release.manifests).items()}
    if (top := folders.get(id(manifest))) is None:
        raise ExportError(f"{manifest.file_name}: AllenSDK cannot load this manifest, so it is not exported")
    of, tables = versions.named.of, set(tables_of(manifest).values())
    wanted = {node.content.content_id: name for name, node in found.files}
    chosen = [file for file in manifest.files if of(file).content_id in wanted or file in tables]
    there = {of(file).content_id for file in chosen}
    if lost := [name for content_id, name in wanted.items() if content_id not in there]:
        raise UsageError(
            f"{lost[0]}: not in dataset version {manifest.dataset_version}, which is exported: name another by"
            " --dataset-version"
        )
    await versions.learn_sizes(chosen)
    return Files(versions, manifest, [_item(versions, top, file) for file in chosen])


def _item(versions: Versions, top: str, file: DataFile) -> Item:
    named = versions.named.of(file)
    attributes = versions.dataset.catalog.sizes.get(named)
    if attributes is None:
        raise ExportError(
            f"{'/'.join(file.path)}: its size is not known, and S3 is not reached; try again with network"
        )
    return Item((top, *file.path), file, named.with_attributes(attributes), attributes.modified_ns)


def _plan(files: Files, found: Found, target: Target, out: ExportFolder, way: Way) -> tuple[Plan, list[Item]]:
    """What is to be done, and the files that cannot be had. Raises `ExportError` where the folder cannot take it."""
    dataset, items = files.versions.dataset, files.items
    out.read_record()
    left = [item for item in items if not item.is_in(out)]
    check_names(target, (item.path for item in items))
    if not way.is_without_copies:
        check_lengths(target, [(item.name, item.content.size_bytes) for item in left])
    missing_bytes = sum(item.content.size_bytes - dataset.cache.cached_bytes(item.content) for item in left)
    left_out = [dataset.catalog.sizes.get(node.content) for node in found.left_out]
    plan = Plan(
        dataset_version=str(files.manifest.dataset_version),
        folder=str(target.top),
        way=way.name,
        files=len(items),
        size_bytes=_bytes_of(items),
        there_files=len(items) - len(left),
        copied_bytes=0 if way.is_without_copies else _bytes_of(left),
        missing_bytes=0 if way.mounted else missing_bytes,
        free_bytes=target.free_bytes,
        left_out_files=len(left_out),
        left_out_bytes=sum(one.size_bytes for one in left_out if one is not None),
    )
    check_room(target, plan.copied_bytes)
    is_fetched = not files.versions.release.is_offline or way.mounted
    return plan, [] if is_fetched else [item for item in left if _is_lacking(files, item.content)]


def _bytes_of(items: Sequence[Item]) -> int:
    return sum(item.content.size_bytes for item in items)


def _is_lacking(files: Files, content: Content) -> bool:
    return bool(files.versions.dataset.cache.missing(content, blocks_of(ByteRange(0, content.size_bytes))))


def _lacking_text(lacking: Sequence[Item], count: int) -> str | None:
    if not lacking:
        return None
    return (
        f"{len(lacking):,} of {files_text(count)} are not whole in the cache, and S3 is not asked; each is named"
        " above: 'vbnfs prefetch' fetches them where there is network; nothing was copied"
    )


@asynccontextmanager
async def _opened(out: ExportFolder) -> AsyncIterator[None]:
    """The folder, made ready."""
    opened = out.opened()
    try:
        await in_thread(opened.__enter__)
    except OSError as error:
        raise ExportError(f"{out.top}: {error.strerror or error}; name another folder") from error
    try:
        yield
    finally:
        opened.__exit__(None, None, None)
