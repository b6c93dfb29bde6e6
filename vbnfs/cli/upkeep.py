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
    echo_warning,
    given_options,
    log_to_terminal,
    settings,
)
from vbnfs.config.settings import Config
from vbnfs.errors import CacheError, DatasetError, StorageError, UsageError, VbnfsError


@click.command(epilog=EXIT_STATUS)
@click.option(
    "--config-folder",
    type=Path,
    metavar="DIR",
    help="Clean the caches of all *.toml in this folder.",
)
@click.option("--convert", is_flag=True, help="Take over what an earlier vbnfs cached of the dataset.")
@settings("verify", "dataset_version", *ONLY_OF_A_MOUNT, shown=("cache_dir", "cache_size"))
def clean(config_folder: Path | None, convert: bool, **options: Any) -> None:
    """Bring the cache within its size.

    It also removes what dead processes left there. A mount does that itself; this is for a size that was lowered
    while nothing is mounted. See docs/cache.md.
    """
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
            click.echo(f"{done.cache_dir}  {usage} of {limit}; {done.deleted_files} files, {freed} freed{note}")
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
