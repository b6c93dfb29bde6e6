"""`vbnfs clean`, `import`, `install-helper`, `install-units`: for the administrator of a machine."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vbnfs.cli import install, render, streams
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


@click.command(epilog=EXIT_STATUS)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@click.option("--dataset-version", "versions", metavar="X.Y.Z", multiple=True, help="Free what only this one has.")
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
    versions: tuple[str, ...],
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
    if paths or versions or is_all:
        _check_freeing(options, bool(paths or versions) and is_all, config_folder, convert=convert)
        _free(paths, versions, options, is_trial=is_trial)
        return
    if is_trial:
        raise UsageError("--dry-run: of what? Name a PATH, --dataset-version or --all")
    _clean(config_folder, options, convert=convert)


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
    from vbnfs.cli.asked import place_of  # noqa: PLC0415
    from vbnfs.cli.freeing import free, free_all  # noqa: PLC0415

    given = given_in(options)
    config = config_of(options)
    log_to_terminal("error")  # what matters is written below
    if paths or versions:
        freed = free(place_of(config, paths, given=given), versions, is_trial=is_trial)
    else:
        freed = free_all(config, is_trial=is_trial)
    if is_trial:
        for name, count_bytes in sorted(freed.deleted.items()):
            click.echo(render.escape(f"{render.size(count_bytes):>10}  {name}"))
    count, usage, limit = map(render.size, (sum(freed.deleted.values()), freed.usage_bytes, freed.limit_bytes))
    done = "would be freed" if is_trial else "freed"
    click.echo(f"{freed.cache_dir}  {usage} of {limit}; {render.files(len(freed.deleted))}, {count} {done}")
    if freed.shared:
        shared = render.size(sum(freed.shared.values()))
        echo_note(
            f"{render.files(len(freed.shared))}, {shared}: other versions have that, too, so it stays;"
            " 'vbnfs clean PATH' frees a file whichever versions have it"
        )


def _clean(config_folder: Path | None, options: dict[str, Any], *, convert: bool) -> None:
    from vbnfs.cli.clean import clean as clean_cache  # noqa: PLC0415
    from vbnfs.cli.clean import configurations, in_place_text  # noqa: PLC0415

    if config_folder is not None and (given := given_options(options)):
        raise UsageError(f"{given[0]} would have no effect on the caches of --config-folder: leave {given[0]} out")
    log_to_terminal("error")  # what matters is written below
    problems: list[VbnfsError] = []
    for config in configurations(config_folder) if config_folder else [config_of(options)]:
        try:
            if isinstance(config, UsageError):
                raise config
            if convert:
                _convert(config)
            done = clean_cache(config)
        except (UsageError, CacheError, DatasetError, StorageError) as error:
            problems.append(error)
        else:
            usage, limit, freed = map(render.size, (done.usage_bytes, done.limit_bytes, done.freed_bytes))
            note = "" if done.is_there else " (no such folder: no size was stored)"
            click.echo(
                f"{done.cache_dir}  {usage} of {limit}; {render.files(done.deleted_files)}, {freed} freed{note}"
            )
            if (in_place := in_place_text(done.cache_dir)) is not None:
                click.echo(render.escape(f"{done.cache_dir}  {in_place}"))
    if problems:
        is_usage = any(isinstance(problem, UsageError) for problem in problems)
        raise (UsageError if is_usage else CacheError)("\n".join(map(str, problems)))


def _convert(config: Config) -> None:
    from vbnfs.cli.convert import convert  # noqa: PLC0415

    bar = click.progressbar(length=1, label="converting", file=sys.stderr, hidden=not sys.stderr.isatty())
    with bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        converted = convert(config, show)
    if not converted.segments and not converted.left:
        click.echo(f"{config.cache_dir}  nothing of an earlier vbnfs is there")
        return
    taken = render.size(converted.taken_bytes)
    click.echo(f"{config.cache_dir}  {taken} of {converted.segments} segments of an earlier vbnfs taken over")
    if converted.left:
        echo_warning(
            f"{converted.left} segments are of files that {config.dataset} does not have: name their dataset with"
            " --dataset; until then they count in the cache's size, and are evicted like all else"
        )


@click.command("import", epilog=EXIT_STATUS)
@click.argument("folder", metavar="DIR", type=Path)
@click.option("--dry-run", is_flag=True, help="Show what would be taken; read and take nothing.")
@click.option("--in-place", is_flag=True, help="Read the files where they lie, and copy nothing.")
@click.option("-v", "--verbose", is_flag=True, help="Name every file, not only those that need attention.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@settings("verify", "dataset_version", *ONLY_OF_A_MOUNT, shown=("dataset", "cache_dir", "cache_size", "offline"))
def import_(folder: Path, dry_run: bool, in_place: bool, verbose: bool, as_json: bool, **options: Any) -> None:
    """Take files that you have already into the cache.

    DIR is a cache_dir of AllenSDK, a copy by 'aws s3 sync', or another vbnfs cache. A file is taken if its bytes have
    the hash in a manifest: it is shared (reflink) or copied, and DIR stays as it is. See docs/cache.md.
    """
    from vbnfs.cli import import_findings, importing  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415

    where = place_of(config_of(options), (), given=set())
    log_to_terminal("critical")  # what matters is written below
    is_hidden = dry_run or not sys.stderr.isatty()
    bar = click.progressbar(length=1, label="importing", file=sys.stderr, hidden=is_hidden)

    def show(finding: import_findings.Finding) -> None:
        detail = f": {finding.detail}" if finding.detail else ""
        if not as_json and (verbose or finding.outcome in import_findings.OF_INTEREST):
            click.echo(render.escape(f"{finding.outcome:<10} {finding.path}{detail}"))

    def progress(done_bytes: int, total_bytes: int) -> None:
        bar.length = max(1, total_bytes)
        bar.update(done_bytes - bar.pos)

    with bar:
        ways, reports = importing.Ways(dry_run, in_place), import_findings.Reports(show, progress)
        findings = importing.run(where, folder, ways=ways, reports=reports)
    if as_json:
        render.print_json([finding.as_json() for finding in findings])
    import_findings.check_any(findings, folder)
    if not as_json:
        streams.say(import_findings.summary(findings))
    import_findings.check(findings)


def _installing(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--remove", is_flag=True, help="Remove what was installed.")(command)
    return click.option(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="Folder to install below: for packages and images.",
    )(command)


def _carry_out(pieces: list[install.Piece], *, remove: bool, then: str) -> None:
    if remove:
        for path in install.remove(pieces):
            click.echo(f"removed {path}")
        return
    install.install(pieces)
    for piece in pieces:
        click.echo(f"{piece.path}{f' -> {piece.target}' if piece.target else ''}")
    streams.say(then)


@click.command(epilog=EXIT_STATUS)
@_installing
def install_helper(root: Path, remove: bool) -> None:
    """Let mount(8) and fstab(5) mount with vbnfs.

    Then 'mount -t vbnfs DATASET FOLDER' works, and so do lines of fstab: see docs/mounting.md.
    """
    _carry_out(
        pieces := install.helper_pieces(root),
        remove=remove,
        then="now: mount -t vbnfs visual-behavior-neuropixels FOLDER   (for fstab see docs/mounting.md)",
    )
    program = pieces[0].target
    if program and not remove and not install.is_for_all_users(program):
        echo_warning(f"only root can run {program}: fstab's option 'user' will not work")


@click.command(epilog=EXIT_STATUS)
@click.option("--user", is_flag=True, help="For this user alone, in ~/.config/systemd/user.")
@_installing
def install_units(user: bool, root: Path, remove: bool) -> None:
    """Let systemd mount at boot or at log-in.

    It installs a unit that mounts what a file /etc/vbnfs/NAME.toml (~/.config/vbnfs/NAME.toml with --user) describes:
    see docs/mounting.md.
    """
    folder, systemctl = ("~/.config/vbnfs", "systemctl --user") if user else ("/etc/vbnfs", "systemctl")
    steps = [
        f'write {folder}/NAME.toml, with: mountpoint = "/some/folder"',
        f"{systemctl} daemon-reload",
        f"{systemctl} enable --now vbnfs@NAME vbnfs-clean.timer",
    ]
    if not user:
        steps.insert(0, "systemd-tmpfiles --create vbnfs.conf")
    _carry_out(install.unit_pieces(root, for_user=user), remove=remove, then="now: " + "\n     ".join(steps))
