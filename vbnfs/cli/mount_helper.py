"""`mount.vbnfs`, the program that mount(8) runs for `mount -t vbnfs DATASET FOLDER -o OPTIONS` and lines of fstab(5).

    mount.vbnfs DATASET FOLDER [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION[,...]]

That is mount(8)'s convention ("EXTERNAL HELPERS"). `-s` tolerates unknown options, `-f` reads the settings and mounts
nothing, `-v` writes more, `-n` (no mtab) is always so. Without `ro` on its command line mount(8) passes `rw` on.
Whether a user asked for that cannot be seen, so it is taken as `ro`.

Exit status, as mount(8) has it: 0 mounted, 1 wrong usage, 2 the system fails, 8 interrupted, 32 not mounted.
"""

import errno
import getopt
import os
import pwd
import re
import stat
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from vbnfs import interrupts
from vbnfs.access.waiting import what_takes_so_long
from vbnfs.cli import render, streams
from vbnfs.config.mount_options import REMOTE, is_mount_option, split_mount_options, value_of
from vbnfs.config.settings import SETTING_BY_NAME, Config
from vbnfs.config.sources import load_config
from vbnfs.errors import MountError, UsageError, VbnfsError
from vbnfs.host import handed_over, mountinfo
from vbnfs.startup import without_rich

MOUNTED: Final = 0
WRONG_USAGE: Final = 1
SYSTEM_FAILS: Final = 2
INTERRUPTED: Final = 8
NOT_MOUNTED: Final = 32

_USAGE: Final = "usage: mount.vbnfs DATASET FOLDER [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION[,...]]"
_DROP: Final = "drop_privileges"  # of mount.fuse3(8), which makes the mount first, and hands it over as /dev/fd/N
_DROPPING: Final = (
    f"-o {_DROP}: that is mount.fuse3's, which makes the mount itself and hands it over; for a daemon that is not"
    " root use setuid=USER, for one with a single capability 'vbnfs install --only units'"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What mount(8) asks for. `options` are vbnfs's own; `user` is the daemon's user, None: that of this process."""

    source: str
    folder: Path
    options: tuple[str, ...]
    config_file: Path | None = None
    user: str | None = None
    namespace: str | None = None
    is_remount: bool = False
    is_fake: bool = False
    is_verbose: bool = False


def main() -> NoReturn:
    """Do as mount(8) asks, and end with mount(8)'s exit status."""
    streams.prepare()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Do as `arguments` ask; problems are written to standard error, in one line. Returns the exit status."""
    try:
        interrupts.raise_again()
        try:
            request = parse_arguments(arguments)
            _go_elsewhere(request, arguments)
            config = settings_for(request)
        except UsageError as error:
            return _tell(render.explained(error), WRONG_USAGE)
        return MOUNTED if request.is_fake else _mount(request, config)
    except VbnfsError as error:
        return _give_up(render.explained(error), NOT_MOUNTED, because_of=error)
    except OSError as error:
        return _tell(error, SYSTEM_FAILS)
    except KeyboardInterrupt:
        return _tell("interrupted", INTERRUPTED)
    except Exception as error:
        streams.say(traceback.format_exc().rstrip())
        return _give_up("this is a defect of vbnfs", SYSTEM_FAILS, because_of=error)


def parse_arguments(arguments: Sequence[str]) -> Request:
    """What mount(8)'s words mean. Raises `UsageError`."""
    words, flags = _split(arguments)
    if len(words) != 2:
        raise UsageError(_USAGE)
    given = split_mount_options([value for flag, value in flags if flag == "-o"])
    folder = Path(words[1])
    if _DROP in given and mountinfo.descriptor_in(folder) is None:
        raise UsageError(_DROPPING)  # with -s, too: a user must not believe that they were dropped
    own, options = _own_options([option for option in given if option not in {"rw", _DROP}])
    letters = {flag for flag, _ in flags}
    known = [option for option in options if is_mount_option(option)]
    return Request(
        source=_source(words[0]),
        folder=folder,
        # For a remount mount(8) brings what the kernel tells of the mount, such as user_id=0.
        options=tuple(known if "-s" in letters or "remount" in own else options),
        config_file=Path(own["config"]) if "config" in own else None,
        user=own.get("setuid"),
        namespace=dict(flags).get("-N"),
        is_remount="remount" in own,
        is_fake="-f" in letters,
        is_verbose="-v" in letters,
    )


def _split(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Words and flags, wherever they stand."""
    words: list[str] = []
    flags: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest:
        try:
            found, rest = getopt.getopt(rest, "sfnvN:t:o:")
        except getopt.GetoptError as error:
            raise UsageError(f"{error}; {_USAGE}") from error
        flags += found
        words += rest[:1]
        rest = rest[1:]
    return words, flags


def _own_options(options: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Those that are meant for this program, by name, and the others."""
    own: dict[str, str] = {}
    others: list[str] = []
    for option in options:
        name, value = option.partition("=")[0], value_of(option)
        if option == "remount" or (name in {"config", "setuid"} and value):
            own[name] = value
        elif name in {"config", "setuid"}:
            raise UsageError(f"-o {name}: a value is wanted, as in {name}={'FILE' if name == 'config' else 'USER'}")
        else:
            others.append(option)
    return own, others


def _source(word: str) -> str:
    """What to mount: NAME or s3:NAME. mount(8) makes a path of it where the current folder has such a name."""
    source = os.path.basename(word) if word.startswith("/") else word  # noqa: PTH119 - not a path to anything
    try:
        SETTING_BY_NAME["project"].parse(source.removeprefix(REMOTE))
    except ValueError as error:
        wanted = f"a dataset's name or a project is wanted, also with {REMOTE} before it; {error}"
        raise UsageError(f"{word!r} will not do as what to mount: {wanted}") from error
    return source


def settings_for(request: Request) -> Config:
    """The settings of the mount. Raises `UsageError`."""
    config = load_config(
        command_line={},
        mount_options=request.options,
        config_file=request.config_file,
        mount_source=request.source.removeprefix(REMOTE),
    )
    # mount(8) waits, and `mount -a` looks for the source in the list of mounts.
    return replace(config, foreground=False, source=request.source)


def _go_elsewhere(request: Request, arguments: Sequence[str]) -> None:
    """Where another namespace or user is asked for: become this program there."""
    this = [sys.executable, "-P", "-m", "vbnfs.cli.mount_helper"]
    if request.namespace is not None:
        words, flags = _split(arguments)
        kept = [part for flag in flags if flag[0] != "-N" for part in flag if part]
        _become(["nsenter", f"--mount={request.namespace}", "--", *this, *words, *kept])
    if request.user is not None and _user_id(request.user) != os.geteuid():
        identity = ["--reuid", request.user, "--regid", str(pwd.getpwnam(request.user).pw_gid), "--init-groups"]
        _become(["setpriv", *identity, "--reset-env", "--", *this, *arguments])


def _become(command: list[str]) -> NoReturn:
    sys.stderr.flush()
    os.execvp(command[0], command)


def _user_id(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UsageError(f"-o setuid={name}: there is no such user") from None


def _mount(request: Request, config: Config) -> int:
    with without_rich():
        from vbnfs.daemon import background  # noqa: PLC0415 - not for those who only ask, or ask wrongly

    where = mountinfo.absolute(request.folder)
    if request.is_remount:
        if mountinfo.find_mount(where) is None:
            raise MountError(f"{where}: not mounted, so it cannot be mounted again")
        return _tell(f"{where}: stays mounted as it is; to change a setting, unmount it and mount it", MOUNTED)
    _check_place(where, request, config)

    def say_waiting() -> None:
        if request.is_verbose:
            _tell(what_takes_so_long(config), MOUNTED)

    for warning in background.run_in_background(config, where, say_waiting).warnings:
        _tell(f"warning: {warning}", MOUNTED)
    if request.is_verbose:
        _tell(f"{request.source} mounted on {where}, read-only", MOUNTED)
    return MOUNTED


def _check_place(where: Path, request: Request, config: Config) -> None:
    """Raise `MountError` unless a mount can be made there, or the caller has made it."""
    from vbnfs.daemon import mountpoint as mounts  # noqa: PLC0415
    from vbnfs.daemon.alone import alone_on  # noqa: PLC0415

    descriptor = mountinfo.descriptor_in(where)
    if descriptor is not None:
        handed_over.check(descriptor)
        return
    if request.user is not None and mountinfo.find_mount(where) is None:
        _check_is_theirs(where, request.user)
    with alone_on(where):
        mounts.check_mountpoint(where, cache_dir=config.cache_dir)


def _check_is_theirs(folder: Path, user: str) -> None:
    """With `setuid=` the folder must be that user's, which this process is by now. Raises `MountError`."""
    try:
        is_there = stat.S_ISDIR(folder.stat().st_mode)
    except OSError as error:
        is_there = error.errno == errno.EACCES
    if is_there and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise MountError(f"{folder}: with setuid={user} it must be a folder of {user}'s ('chown {user} {folder}')")


def _give_up(message: str, status: int, *, because_of: Exception) -> int:
    """Say why nothing is mounted, and where that is explained."""
    from vbnfs.cli.troubleshooting import where_to_read  # noqa: PLC0415 - only after failures

    _tell(message, status)
    place = where_to_read(because_of)
    return status if place is None else _tell(place, status)


def _tell(what: object, status: int) -> int:
    text = re.sub(r"\s*\n\s*", "; ", str(what))
    streams.say(f"mount.vbnfs: {render.escape(text)}")
    return status


if __name__ == "__main__":
    main()
