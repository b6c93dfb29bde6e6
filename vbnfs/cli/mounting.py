"""`vbnfs mount`, `umount`, `status`, `limit-rate`."""

import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vbnfs.access.waiting import WAITING_SECONDS, what_takes_so_long
from vbnfs.cli import render, streams
from vbnfs.cli.options import EXIT_STATUS, config_of, echo_note, echo_warning, given_options, settings
from vbnfs.config.mount_options import NON_EMPTY, split_mount_options
from vbnfs.config.settings import SETTING_BY_NAME, Config
from vbnfs.errors import MountError, UsageError
from vbnfs.host import handed_over, mountinfo
from vbnfs.startup import without_rich
from vbnfs.suggestions import hint

if TYPE_CHECKING:
    from vbnfs.daemon.mount import Ready

_MOST_ASKED_AT_ONCE: Final = 256
_OF_ALL_SECONDS: Final = 5.0  # for all mounts together, one of which may not answer; it has longer where it is named


@click.command(epilog=EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option(
    "-o",
    "mount_options",
    metavar="OPTION[,...]",
    multiple=True,
    help="Options as for mount(8): cache_size=500G, allow_other, nonempty ...",
)
@click.option("-f", "in_foreground", is_flag=True, hidden=True, help="As FUSE programs spell --foreground.")
@settings(
    "mountpoint", shown=("dataset", "dataset_version", "cache_size", "offline", "allow_other", "foreground", "config")
)
def mount(mountpoint: Path | None, mount_options: tuple[str, ...], in_foreground: bool, **options: Any) -> None:
    """Mount a dataset on a folder.

    MOUNTPOINT is an empty folder, such as ~/vbn, which is made if need be, or /dev/fd/N, with which the caller has
    mounted. The settings may name one ('mountpoint' in the TOML file). Returns when the files can be listed.
    """
    with without_rich():
        from vbnfs.daemon import background  # noqa: PLC0415 - only what a command needs: `vbnfs --help` is to be quick

    config = config_of(options if not in_foreground else {**options, "foreground": True}, mount_options)
    where = mountinfo.absolute(mountpoint or _mountpoint_of(config))
    with _prepared(where, config, parents=mountpoint is None, given=split_mount_options(mount_options)):

        def announce(ready: "Ready") -> None:
            for warning in ready.warnings:
                echo_warning(warning)

        def say_waiting() -> None:
            echo_note(what_takes_so_long(config))

        if config.foreground:
            background.run_in_foreground(config, where, announce, say_waiting)
            return
        ready = background.run_in_background(config, where, say_waiting)
    announce(ready)
    with suppress(OSError):  # it is mounted, also if the message finds no reader
        click.echo(f"mounted {ready.top} at {render.escape(str(where))}")


@contextmanager
def _prepared(where: Path, config: Config, *, parents: bool, given: Collection[str]) -> Iterator[None]:
    """While entered, a mount can be made there, or the caller has made it. Raises `MountError`."""
    from vbnfs.daemon import mountpoint as mounts  # noqa: PLC0415
    from vbnfs.daemon.alone import alone_on  # noqa: PLC0415

    descriptor = mountinfo.descriptor_in(where)
    if descriptor is not None:
        handed_over.check(descriptor)
        yield
        return
    with _made(where, parents=parents):
        with alone_on(where):
            mounts.check_mountpoint(where, cache_dir=config.cache_dir)
        if NON_EMPTY not in given:  # mount(8) and fstab may name any folder
            mounts.check_empty(where)
        yield


@contextmanager
def _made(mountpoint: Path, *, parents: bool) -> Iterator[None]:
    """While entered, there is a folder to mount on; one that was made for that goes again after a failure."""
    from vbnfs.daemon import mountpoint as mounts  # noqa: PLC0415

    is_new = mounts.make_mountpoint(mountpoint, parents=parents)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if is_new:
                mountpoint.rmdir()
        raise


def _mountpoint_of(config: Config) -> Path:
    if config.mountpoint is None:
        raise UsageError("which folder? Name it, or set 'mountpoint' in the TOML file")
    return config.mountpoint


@click.command(epilog=EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option("--all", "is_all", is_flag=True, help="All mounts of yours; of the machine, for root.")
@click.option("--lazy", is_flag=True, help="Detach now; the daemon ends when no program uses it.")
@click.option("--if-mounted", is_flag=True, help="Do nothing, with status 0, where nothing is mounted.")
@settings(*SETTING_BY_NAME, shown=("config",))
def umount(mountpoint: Path | None, is_all: bool, lazy: bool, if_mounted: bool, **options: Any) -> None:
    """Unmount a dataset.

    MOUNTPOINT is its folder, or else the one that the settings name. Returns when the mount and its daemon are gone.
    """
    if is_all and (mountpoint is not None or given_options(options)):
        raise UsageError("--all is about all mounts: name no folder, and no settings")
    if is_all:
        _unmount_all(lazy=lazy)
        return
    if mountpoint is not None and (given := given_options(options)):
        raise UsageError(f"{given[0]} would have no effect where a folder is named: leave {given[0]} out")
    where = mountinfo.absolute(mountpoint or _mountpoint_of(config_of(options)))
    _check_is_folder(where)
    if if_mounted and mountinfo.find_mount(where) is None:
        return
    _unmount(where, lazy=lazy)
    if left := len(mountinfo.mounts_on(where)):
        raise MountError(
            f"{where}: one mount is gone, and {left} below it {'is' if left == 1 else 'are'} still there;"
            f" 'vbnfs umount {shlex.quote(str(where))}' takes away one at a time"
        )


def _unmount_all(*, lazy: bool) -> None:
    """Unmount all of this user's mounts, the latest first: it may lie on another. Raises `MountError`."""
    entries = [entry for entry in reversed(mountinfo.list_mounts()) if mountinfo.is_ours(entry)]
    if not entries:
        streams.say("nothing is mounted")
    left: list[str] = []
    for entry in entries:
        try:
            _unmount(entry.mountpoint, lazy=lazy)
        except MountError as error:
            left.append(str(error))
        else:
            click.echo(f"unmounted {render.escape(str(entry.mountpoint))}")
    if left:
        raise MountError("\n".join(left))


def _unmount(where: Path, *, lazy: bool) -> None:
    from vbnfs.daemon.unmounting import unmount_to_the_end  # noqa: PLC0415

    os.chdir("/")  # this process must not be what keeps the mount busy
    unmount_to_the_end(where, lazy=lazy, note=echo_note)


def mounts_at(mountpoint: Path | None) -> list[mountinfo.MountEntry]:
    """The mounts on a folder; for None, all of this user's. Raises `MountError` where a folder has none."""
    if mountpoint is None:
        return [entry for entry in mountinfo.list_mounts() if mountinfo.is_ours(entry)]
    where = mountinfo.absolute(mountpoint)
    _check_is_folder(where)
    entries = mountinfo.mounts_on(where)
    if not entries:
        message = f"{where}: no vbnfs mount; 'vbnfs status' lists those that there are"
        raise MountError(message + hint(str(where), (str(one.mountpoint) for one in mountinfo.list_mounts())))
    return entries


def _check_is_folder(where: Path) -> None:
    """Raise `UsageError` for a mount that is not named by its folder."""
    if mountinfo.descriptor_in(where) is not None:
        raise UsageError(
            f"{where}: name the folder that it is mounted on ('findmnt -t fuse.vbnfs' lists them); who has mounted it"
            " takes it away"
        )


@click.command(epilog=EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(mountpoint: Path | None, as_json: bool) -> None:
    """Show what is mounted, from where, and what was read.

    MOUNTPOINT is the folder of one mount. Without it all of yours are shown, or all of the machine's to root; those
    of root are named. So is what commands of yours fetch without a mount.
    """
    from vbnfs.access.mount_status import status_of  # noqa: PLC0415
    from vbnfs.access.running_mounts import ANSWER_SECONDS  # noqa: PLC0415

    entries, others = mounts_at(mountpoint), [] if mountpoint is not None else mountinfo.roots_mounts()
    found: list[dict[str, Any]] = []
    silent: list[str] = []
    seconds = ANSWER_SECONDS if mountpoint is not None else _OF_ALL_SECONDS
    with ThreadPoolExecutor(_MOST_ASKED_AT_ONCE) as pool:  # one that does not answer holds up no others
        answers = {pool.submit(status_of, entry, seconds=seconds): entry.mountpoint for entry in entries}
        for late in wait(answers, timeout=WAITING_SECONDS).not_done:
            echo_note(f"waiting for the daemon of {answers[late]}")
        for asked in answers:
            try:
                found.append(asked.result())
            except MountError as error:
                silent.append(render.escape(str(error)))
    if as_json:
        render.print_json(found[0] if mountpoint is not None and found else found)
    else:
        _show_status(found, with_fetches=mountpoint is None)
        for entry in others:
            folder = render.escape(shlex.quote(str(entry.mountpoint)))
            streams.say(f"{folder} is root's: 'vbnfs status {folder}' shows it")
        if not entries and not others:
            streams.say("nothing is mounted; 'vbnfs mount ~/vbn' mounts a dataset")
    if silent:
        raise MountError("\n".join(silent))


def _show_status(found: Sequence[Mapping[str, Any]], *, with_fetches: bool) -> None:
    from vbnfs.access.running_fetches import running_fetches  # noqa: PLC0415
    from vbnfs.cli.status_text import status_lines  # noqa: PLC0415

    for one in found:
        for line in status_lines(one):
            click.echo(line)
    if with_fetches and (fetches := running_fetches()):
        from vbnfs.cli.top_text import fetch_lines  # noqa: PLC0415 - which imports more than the rest

        render.print_spans(line for fetch in fetches for line in fetch_lines(fetch))


@click.command(epilog=EXIT_STATUS)
@click.argument("words", metavar="[RATE] [MOUNTPOINT]", nargs=-1)
@settings(*(name for name in SETTING_BY_NAME if name != "cache_dir"), shown=("cache_dir", "config"))
def limit_rate(words: tuple[str, ...], **options: Any) -> None:
    """Limit what S3 may send in a second, or show the limit.

    RATE is in bytes a second, such as 5M or 500K (powers of 1024), or off. It holds from now on for all that use a
    cache together: mounts that there are, too, and later ones. MOUNTPOINT names a mount, whose cache is meant;
    without it the cache of the settings.
    """
    from vbnfs.cli import limiting  # noqa: PLC0415

    rate, mountpoint = limiting.parsed(words)
    if mountpoint is not None and (given := given_options(options)):
        raise UsageError(f"{given[0]} would have no effect where a mount is named: leave {given[0]} out")
    config = config_of(options)
    directory = config.cache_dir if mountpoint is None else limiting.cache_dir_of(mountpoint)
    click.echo(render.escape(f"{directory}  {limiting.limit(directory, rate)}"))
