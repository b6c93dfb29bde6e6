"""`vbnfs versions`, `diff`, `urls`, `verify`, `digests`: what they are asked, and how the answers are shown."""

from pathlib import Path
from typing import Any

import click

from vbnfs.cli import render, streams
from vbnfs.cli.options import (
    EXIT_STATUS,
    ONLY_OF_A_MOUNT,
    WHERE_SETTINGS_ARE,
    config_of,
    dask_of,
    echo_note,
    files_in,
    given_in,
    log_to_terminal,
    on_dask,
    run_on_versions,
    settings,
)
from vbnfs.config.settings import SETTING_BY_NAME
from vbnfs.dataset.names import LATEST
from vbnfs.errors import DatasetError, UsageError
from vbnfs.host.mountinfo import roots_mounts


@click.command(epilog=EXIT_STATUS)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@settings("dataset_version", *ONLY_OF_A_MOUNT, shown=("dataset", "offline"))
def versions(as_json: bool, **options: Any) -> None:
    """List the dataset's versions, and what is cached of each."""
    from vbnfs.cli.versions import list_versions  # noqa: PLC0415

    rows = run_on_versions(options, list_versions)
    for entry in [] if as_json else roots_mounts():
        where = entry.mountpoint
        echo_note(f"{where} is root's, and has a cache of its own: 'du -sh {where}/manifests/*' counts that")
    if as_json:
        render.print_json([row.as_json() for row in rows])
    else:
        render.print_table(
            ("version", "published", "files ", "size ", "cached ", ""),
            [
                (row.version, row.published, f"{row.files:,}", render.size(row.size_bytes),
                 render.size(row.cached_bytes), "newest" if row.is_newest else "")
                for row in rows
            ],
        )  # fmt: skip


@click.command(
    epilog="\b\nExit status: 0 compared, with or without differences; 1 not done, or a table"
    f"\ncould not be fetched (the message says why); 2 wrong usage.\n{WHERE_SETTINGS_ARE}"
)
@click.argument("old", required=False)
@click.argument("new", default=LATEST)
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "allensdk"]),
    default="text",
    help="'allensdk': what AllenSDK's compare_manifests returns, to the letter.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--summary", is_flag=True, help="Leave the list of files out.")
@click.option("--no-tables", is_flag=True, help="Compare manifests only, and fetch no tables.")
@settings("dataset_version", *ONLY_OF_A_MOUNT, shown=("dataset", "offline"))
def diff(
    old: str | None, new: str, style: str, as_json: bool, summary: bool, no_tables: bool, **options: Any
) -> None:
    """Show what changed between two dataset versions.

    OLD and NEW are versions: 0.4.0, v0.4.0 or latest. NEW is the latest if it is not given,
    and OLD the one before it.

    Files are compared by the manifests' hashes; 'fetch' is what of them is not cached yet. Tables (the project's
    metadata) that changed are fetched and compared by row and column.
    """
    from vbnfs.access.differences import allensdk_report, make_report  # noqa: PLC0415
    from vbnfs.access.whole_files import whole_files  # noqa: PLC0415
    from vbnfs.cli.diff_text import print_report  # noqa: PLC0415

    old, new = None if old is None else _version(old), _version(new)
    if style == "allensdk":
        for option, is_given in (("--json", as_json), ("--summary", summary)):
            if is_given:
                raise UsageError(f"{option} and --format allensdk exclude each other")
        click.echo(run_on_versions(options, allensdk_report, old, new))
        return
    read = None if no_tables else whole_files
    report = run_on_versions(options, make_report, old, new, read=read, note=echo_note)
    if as_json:
        render.print_json(report.as_json(with_files=not summary))
    else:
        print_report(report, with_files=not summary)
    if report.unread:
        raise DatasetError("\n".join(report.unread))


def _version(text: str) -> str:
    try:
        return str(SETTING_BY_NAME["dataset_version"].parse(text))
    except ValueError as error:
        raise UsageError(f"{text!r} will not do: {error}") from error


@click.command(epilog=EXIT_STATUS)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with more about each file.")
@settings(*ONLY_OF_A_MOUNT, shown=("dataset", "dataset_version"))
def urls(as_json: bool, **options: Any) -> None:
    """List the URL of every file of a dataset version.

    The URLs are in the manifest's order, each with its versionId: it gives exactly the released bytes, also when the
    bucket has newer ones. Files in different folders may have one name: a script that fetches
    them keeps the folders. With --endpoint-url they are that server's.
    """
    from vbnfs.cli.urls import list_urls  # noqa: PLC0415

    rows = run_on_versions(options, list_urls)
    if as_json:
        render.print_json([row.as_json() for row in rows])
    else:
        for row in rows:
            render.print_line(row.url)


@click.command(epilog=EXIT_STATUS)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@click.option("--fetch", is_flag=True, help="Fetch what is missing, and again what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@on_dask
@settings("verify", *ONLY_OF_A_MOUNT, shown=("dataset", "offline"))
def verify(paths: tuple[Path, ...], fetch: bool, as_json: bool, **options: Any) -> None:
    """Compare cached files with the hashes in the manifests.

    PATH is a file or folder in a mount, or in the dataset (ecephys_sessions, manifests/v0.5.0/...), or a dataset
    version (0.5.0). Without a PATH, all files that are completely cached are verified. A file that does not match is
    dropped from the cache, and reads of it fail until it has been fetched again and matches. In a mount of another
    user it shows what that has found.
    """
    from vbnfs.access.verifying import Finding, check  # noqa: PLC0415
    from vbnfs.cli import verify as verifying  # noqa: PLC0415
    from vbnfs.cli import verify_as_reader  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415
    from vbnfs.cli.progress import Bar, going_on_later  # noqa: PLC0415

    def show(finding: Finding) -> None:
        detail = f": {finding.detail}" if finding.detail else ""
        if not as_json:
            with bar.aside():
                click.echo(render.escape(f"{finding.outcome:<12} {finding.path}{detail}"))

    bar, dask = Bar(is_hidden=not fetch), dask_of(options)
    if dask is None and verify_as_reader.is_wanted(paths, fetch=fetch):
        outcome = verify_as_reader.run(paths, show=show)
    else:
        given = given_in(options)
        where = place_of(config_of(options), paths, given=given)
        log_to_terminal("critical")  # what matters is written below
        with going_on_later(is_fetch=fetch):
            if dask is None:
                outcome = verifying.run(where, fetch=fetch, show=show, bar=bar)
            else:
                from vbnfs.cli import on_dask as cluster  # noqa: PLC0415

                outcome = cluster.verify(where, dask, fetch=fetch, show=show, bar=bar)
    if as_json:
        render.print_json([finding.as_json() for finding in outcome.findings])
    else:
        streams.say(verifying.summary(outcome))
    check(outcome)


@click.group(epilog=EXIT_STATUS)
def digests() -> None:
    """Export or import digests of files' blocks.

    This cache makes digests of each file that was complete and had the manifest's hash. With them, every block is
    checked as it comes. docs/digests.md explains them, and has the format of the file.
    """


@digests.command("export", epilog=EXIT_STATUS)
@click.argument("file", type=Path)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@settings("verify", *ONLY_OF_A_MOUNT, shown=("dataset", "dataset_version", "cache_dir", "offline"))
def export_digests(file: Path, paths: tuple[Path, ...], **options: Any) -> None:
    """Write the digests of files into FILE.

    PATH is a file or folder in a mount, or in the dataset, or a dataset version. Without a PATH it is all of
    --dataset-version, or else everything that this cache has digests of.
    """
    from vbnfs.cli import sets  # noqa: PLC0415
    from vbnfs.cli.digests import DIGESTS  # noqa: PLC0415

    where = files_in(paths, options)
    log_to_terminal("error")
    moved = sets.export(DIGESTS, where, file, note=echo_note)
    click.echo(f"{file}  {render.files(moved.files)}, {render.size(moved.count_bytes)}")


@digests.command("import", epilog=EXIT_STATUS)
@click.argument("file", type=Path)
@settings(*(SETTING_BY_NAME.keys() - {"cache_dir"}), shown=("cache_dir",))
def import_digests(file: Path, **options: Any) -> None:
    """Keep the digests in FILE, as claims.

    What comes from now on is checked against them. A claim is proven, or replaced, when the whole file has been
    hashed here: digests that are wrong keep no file from being read.
    """
    from vbnfs.cli import sets  # noqa: PLC0415
    from vbnfs.cli.digests import DIGESTS  # noqa: PLC0415

    config = config_of(options)
    log_to_terminal("error")
    moved = sets.take_in(DIGESTS, config.cache_dir, file, note=echo_note)
    click.echo(
        f"{file}  {render.files(moved.files)}, {render.size(moved.count_bytes)}; {moved.new:,} of them new here"
    )
