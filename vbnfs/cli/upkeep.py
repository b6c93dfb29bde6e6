"""`vbnfs clean`, `import`: what the cache holds."""

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vbnfs.cli import render, streams
from vbnfs.cli.options import (
    EXIT_STATUS,
    ONLY_OF_A_MOUNT,
    config_of,
    echo_note,
    echo_warning,
    given_in,
    given_options,
    log_to_terminal,
    settings,
)
from vbnfs.config.settings import Config
from vbnfs.errors import CacheError, DatasetError, StorageError, UsageError, VbnfsError

if TYPE_CHECKING:
    from vbnfs.cli.clean import Cleaned
    from vbnfs.cli.file_finding import Finding
    from vbnfs.cli.import_findings import Imported


@click.command(epilog=EXIT_STATUS)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@click.option("--dataset-version", "freed", metavar="X.Y.Z", multiple=True, help="Free what only this one has.")
@click.option("--all", "is_all", is_flag=True, help="Free all files.")
@click.option("--dry-run", "is_trial", is_flag=True, help="List what would be freed.")
@click.option(
    "--config-folder",
    type=Path,
    metavar="DIR",
    help="Clean the caches of all *.toml in this folder.",
)
@click.option("--convert", is_flag=True, help="Take over what an earlier vbnfs cached of the dataset.")
@settings("verify", "dataset_version", *ONLY_OF_A_MOUNT, shown=("cache_dir", "cache_size"))
def clean(
    paths: tuple[Path, ...],
    freed: tuple[str, ...],
    is_all: bool,
    is_trial: bool,
    config_folder: Path | None,
    convert: bool,
    **options: Any,
) -> None:
    """Bring the cache within its size, or free what is named.

    PATH is a file or folder in a mount, or in the dataset, or a version. Without one, what is too much is deleted
    and what dead processes left, as a mount does itself. See docs/cache.md.
    """
    if paths or freed or is_all:
        _check_freeing(options, bool(paths or freed) and is_all, config_folder, convert=convert)
        _free(paths, freed, options, is_trial=is_trial)
        return
    _clean(config_folder, options, convert=convert, is_trial=is_trial)


def _check_freeing(
    options: dict[str, Any], is_all_and_more: bool, config_folder: Path | None, *, convert: bool
) -> None:
    """Raise `UsageError` for what does not go with freeing files by name."""
    if is_all_and_more:
        raise UsageError("--all frees every file: leave PATH and --dataset-version out")
    if options.get("cache_size") is not None:
        raise UsageError("--cache-size would have no effect: freeing leaves the cache's size; set it by itself")
    if config_folder is not None or convert:
        raise UsageError("--config-folder and --convert are for a cache as a whole: run them by themselves")


def _free(paths: tuple[Path, ...], versions: tuple[str, ...], options: dict[str, Any], *, is_trial: bool) -> None:
    from vbnfs.access.freeing import free_all  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415
    from vbnfs.cli.freeing import free  # noqa: PLC0415
    from vbnfs.cli.in_place import stays_in_place_text  # noqa: PLC0415

    given = given_in(options)
    config = config_of(options)
    log_to_terminal("error")  # what matters is written below
    if paths or versions:
        freed = free(place_of(config, paths, given=given), versions, is_trial=is_trial)
    else:
        freed = free_all(config, is_trial=is_trial)
    if is_trial:
        _list(freed.deleted)
    count, usage, limit = map(render.size, (sum(freed.deleted.values()), freed.usage_bytes, freed.limit_bytes))
    done = "would be freed" if is_trial else "freed"
    click.echo(f"{freed.cache_dir}  {usage} of {limit}; {render.files(len(freed.deleted))}, {count} {done}")
    if freed.shared:
        shared = render.size(sum(freed.shared.values()))
        echo_note(
            f"{render.files(len(freed.shared))}, {shared}: other versions have that, too, so it stays;"
            " 'vbnfs clean PATH' frees a file whichever versions have it"
        )
    if freed.pinned:
        pinned = render.size(sum(freed.pinned.values()))
        echo_note(
            f"{render.files(len(freed.pinned))}, {pinned}: pinned, so it stays; 'vbnfs pins' lists the pins, 'vbnfs"
            " unpin NAME' takes one away"
        )
    for name in freed.torn:
        echo_note(f"pin {name} lacks a file now: 'vbnfs pin {name}' fetches it again")
    if freed.in_place:
        echo_note(stays_in_place_text(freed.in_place))


def _list(names: Mapping[str, int]) -> None:
    for name, count_bytes in sorted(names.items()):
        click.echo(render.escape(f"{render.size(count_bytes):>10}  {name}"))


def _clean(config_folder: Path | None, options: dict[str, Any], *, convert: bool, is_trial: bool) -> None:
    from vbnfs.cli.clean import clean as clean_cache  # noqa: PLC0415
    from vbnfs.cli.clean import configurations  # noqa: PLC0415

    if config_folder is not None and (given := given_options(options)):
        raise UsageError(f"{given[0]} would have no effect on the caches of --config-folder: leave {given[0]} out")
    log_to_terminal("error")  # what matters is written below
    problems: list[VbnfsError] = []
    for config in configurations(config_folder) if config_folder else [config_of(options)]:
        try:
            if isinstance(config, UsageError):
                raise config
            if convert:
                _convert(config, is_trial=is_trial)
            done = clean_cache(config, is_trial=is_trial)
        except (UsageError, CacheError, DatasetError, StorageError) as error:
            problems.append(error)
        else:
            _print_cleaned(done, is_trial=is_trial)
    if problems:
        is_usage = any(isinstance(problem, UsageError) for problem in problems)
        raise (UsageError if is_usage else CacheError)("\n".join(map(str, problems)))


def _print_cleaned(done: "Cleaned", *, is_trial: bool) -> None:
    from vbnfs.cli.in_place import in_place_text  # noqa: PLC0415

    _list(done.names)
    usage, limit, freed = map(render.size, (done.usage_bytes, done.limit_bytes, done.freed_bytes))
    verb = "would be freed" if is_trial else "freed"
    note = "" if done.is_there else " (no such folder: no size was stored)"
    click.echo(f"{done.cache_dir}  {usage} of {limit}; {render.files(done.deleted_files)}, {freed} {verb}{note}")
    if (in_place := in_place_text(done.cache_dir)) is not None:
        click.echo(render.escape(f"{done.cache_dir}  {in_place}"))


def _convert(config: Config, *, is_trial: bool) -> None:
    from vbnfs.cli.convert import convert  # noqa: PLC0415

    bar = click.progressbar(length=1, label="converting", file=sys.stderr, hidden=not sys.stderr.isatty())
    with bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        converted = convert(config, show, is_trial=is_trial)
    if converted.elsewhere:
        folder = render.escape(shlex.quote(str(config.cache_dir / "blocks-v1")))
        echo_warning(
            f"{config.cache_dir}: what an earlier vbnfs cached is of {', '.join(converted.elsewhere)}, and not of"
            f" this server: give its --endpoint-url; or let it go: rm -r {folder}"
        )
        return
    if not converted.segments and not converted.left:
        click.echo(f"{config.cache_dir}  nothing of an earlier vbnfs is there")
        return
    taken, verb = render.size(converted.taken_bytes), "would be taken over" if is_trial else "taken over"
    click.echo(f"{config.cache_dir}  {taken} of {converted.segments} segments of an earlier vbnfs {verb}")
    if converted.left:
        echo_warning(
            f"{converted.left} segments are of files that {config.dataset} does not have: name their dataset with"
            " --dataset; until then they count in the cache's size, and are evicted like all else"
        )


@click.command("import", epilog=EXIT_STATUS)
@click.argument("folder", metavar="DIR", type=Path)
@click.option("--dry-run", is_flag=True, help="Show what would be taken, and if it has room; read and take nothing.")
@click.option("--in-place", is_flag=True, help="Read the files where they lie, and copy nothing.")
@click.option("--forget", "is_to_forget", is_flag=True, help="Read files of DIR in place no more; they stay there.")
@click.option("-v", "--verbose", is_flag=True, help="Name every file, not only those that need attention.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@settings("verify", "dataset_version", *ONLY_OF_A_MOUNT, shown=("dataset", "cache_dir", "cache_size", "offline"))
def import_(folder: Path, verbose: bool, as_json: bool, is_to_forget: bool, **options: Any) -> None:
    """Take files that you have already into the cache.

    DIR is a cache_dir of AllenSDK, a copy by 'aws s3 sync', or another vbnfs cache. A file is taken if its bytes have
    the hash in a manifest: it is shared (reflink) or copied, and DIR stays as it is. See docs/cache.md.
    """
    from vbnfs.cli import import_findings  # noqa: PLC0415

    def show(finding: "Finding") -> None:
        detail = f": {finding.detail}" if finding.detail else ""
        if not as_json and (verbose or finding.outcome in import_findings.OF_INTEREST):
            click.echo(render.escape(f"{finding.outcome:<10} {finding.path}{detail}"))

    ways = {name: bool(options.pop(name)) for name in ("dry_run", "in_place")}
    done = (_forget if is_to_forget else _import)(folder, options, show, **ways)
    if as_json:
        render.print_json([finding.as_json() for finding in done.findings])
    import_findings.check_any(done.findings, folder)
    if not as_json:
        streams.say(import_findings.summary(done.findings))
    if done.problem is not None:
        raise CacheError(done.problem)
    import_findings.check(done.findings)


def _import(
    folder: Path, options: dict[str, Any], show: "Callable[[Finding], None]", *, dry_run: bool, in_place: bool
) -> "Imported":
    from vbnfs.cli import import_findings, importing  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415

    where = place_of(config_of(options), (), given=set())
    log_to_terminal("critical")  # what matters is written below
    is_hidden = dry_run or not sys.stderr.isatty()
    bar = click.progressbar(length=1, label="importing", file=sys.stderr, hidden=is_hidden)

    def progress(done_bytes: int, total_bytes: int) -> None:
        bar.length = max(1, total_bytes)
        bar.update(done_bytes - bar.pos)

    with bar:
        ways, reports = importing.Ways(dry_run, in_place), import_findings.Reports(show, progress)
        return importing.run(where, folder, ways=ways, reports=reports)


def _forget(
    folder: Path, options: dict[str, Any], show: "Callable[[Finding], None]", *, dry_run: bool, in_place: bool
) -> "Imported":
    from vbnfs.cli.import_findings import Imported  # noqa: PLC0415
    from vbnfs.cli.in_place import forget  # noqa: PLC0415

    if in_place:
        raise UsageError("--forget ends what --in-place began: leave --in-place out")
    if given := [name for name in given_options(options) if name not in {"--config", "--cache-dir"}]:
        raise UsageError(f"{given[0]} would have no effect on files that are read in place: leave {given[0]} out")
    findings = forget(config_of(options), folder, is_trial=dry_run)
    for finding in findings:
        show(finding)
    return Imported(findings)
