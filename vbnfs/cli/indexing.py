"""`vbnfs index`: what it is asked, and how the answers are shown."""

from pathlib import Path
from typing import Any

import click

from vbnfs.cli import render, streams
from vbnfs.cli.options import (
    EXIT_STATUS,
    ONLY_OF_A_MOUNT,
    config_of,
    echo_note,
    echo_warning,
    files_in,
    log_to_terminal,
    settings,
)
from vbnfs.config.settings import SETTING_BY_NAME
from vbnfs.errors import UsageError


@click.group(epilog=EXIT_STATUS)
def index() -> None:
    """Know where HDF5 files have their structure.

    A mount fetches all of that at once when a program opens a file that the index has. It records what it finds
    itself. docs/structure-index.md explains it, and has the format of the file.
    """


@index.command("build", epilog=EXIT_STATUS)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@click.option("--all", "is_all", is_flag=True, help="All files of all versions.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@settings("verify", *ONLY_OF_A_MOUNT, shown=("dataset", "dataset_version", "cache_dir"))
def build_index(paths: tuple[Path, ...], is_all: bool, as_json: bool, **options: Any) -> None:
    """Read the structure of files, and record where it is.

    PATH is a file or folder in a mount, or in the dataset, or a dataset version. Some MB of each session are fetched,
    into the cache. Files that were read before are left out.
    """
    from vbnfs.cli import index as indexes  # noqa: PLC0415

    version = options.get("dataset_version")
    if is_all and (paths or version):
        raise UsageError("--all means all files: leave it out, or the PATH and --dataset-version")
    if not (is_all or paths or version):
        raise UsageError("name a PATH or a --dataset-version, or all files by --all")
    where = files_in(paths, options)
    log_to_terminal("error")

    def show(finding: indexes.Finding) -> None:
        if not as_json:
            about = f"{finding.blocks} blocks, {render.size(finding.structure_bytes)}" if finding.blocks else ""
            detail = "; ".join(part for part in (about, finding.detail) if part)
            click.echo(render.escape(f"{finding.outcome:<8} {finding.path}{f': {detail}' if detail else ''}"))

    findings = indexes.build(where, show=show)
    if as_json:
        render.print_json([finding.as_json() for finding in findings])
    else:
        streams.say(indexes.summary(findings))
    indexes.check(findings)


@index.command("show", epilog=EXIT_STATUS)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the numbers of the blocks.")
@settings(
    *("verify", *(name for name in ONLY_OF_A_MOUNT if name != "index")),
    shown=("dataset", "dataset_version", "cache_dir", "offline", "index"),
)
def show_index(paths: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Show which files the index has.

    PATH is a file or folder in a mount, or in the dataset, or a dataset version. Without a PATH it is all of
    --dataset-version, or else all files.
    """
    from vbnfs.cli import index as indexes  # noqa: PLC0415

    where = files_in(paths, options)
    log_to_terminal("error")  # what matters is written below
    known = indexes.known(where)
    for note in known.notes:
        echo_warning(note)
    if as_json:
        render.print_json([row.as_json() for row in known.rows])
        return
    columns = ("file", "size ", "blocks ", "bytes ", "cached ", "from")
    rows = (
        (row.path, render.size(row.size_bytes), f"{len(row.blocks)}", render.size(row.structure_bytes),
         render.size(row.cached_bytes), row.origin)
        for row in known.rows
    )  # fmt: skip
    render.print_table(columns, rows)
    streams.say(known.summary())


@index.command("export", epilog=EXIT_STATUS)
@click.argument("file", type=Path)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@settings("verify", *ONLY_OF_A_MOUNT, shown=("dataset", "dataset_version", "cache_dir", "offline"))
def export_index(file: Path, paths: tuple[Path, ...], **options: Any) -> None:
    """Write the index of files into FILE.

    PATH is a file or folder in a mount, or in the dataset, or a dataset version. Without a PATH it is all of
    --dataset-version, or else everything that this cache has found itself.
    """
    from vbnfs.cli import sets  # noqa: PLC0415
    from vbnfs.cli.index import INDEX  # noqa: PLC0415

    where = files_in(paths, options)
    log_to_terminal("error")
    moved = sets.export(INDEX, where, file, note=echo_note)
    click.echo(f"{file}  {render.files(moved.files)}, {render.size(moved.count_bytes)}")


@index.command("import", epilog=EXIT_STATUS)
@click.argument("file", type=Path)
@settings(*(SETTING_BY_NAME.keys() - {"cache_dir"}), shown=("cache_dir",))
def import_index(file: Path, **options: Any) -> None:
    """Keep the index in FILE, beside what this cache has found itself.

    It is advice: blocks that it names wrongly are fetched, too, 14 MiB of a file at the most, and nothing
    that is read changes.
    """
    from vbnfs.cli import sets  # noqa: PLC0415
    from vbnfs.cli.index import INDEX  # noqa: PLC0415

    config = config_of(options)
    log_to_terminal("error")
    moved = sets.take_in(INDEX, config.cache_dir, file, note=echo_note)
    click.echo(
        f"{file}  {render.files(moved.files)}, {render.size(moved.count_bytes)}; {moved.new:,} of them new here"
    )
