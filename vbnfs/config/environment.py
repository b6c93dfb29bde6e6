"""What the process's environment says: variables, folders of the user, a supervisor. Nothing else reads it."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from vbnfs.host.identity import our_uid

COMPLETING: Final = "_VBNFS_COMPLETE"
WEB_TOKEN: Final = "VBNFS_WEB_TOKEN"  # hands `vbnfs web` its token from the program that starts it


def variables() -> Mapping[str, str]:
    """The environment variables of this process."""
    return os.environ


def variables_for_settings_in(config_file: Path) -> dict[str, str]:
    """The variables of a child process of `vbnfs` that takes its settings from this file alone."""
    others = {name: text for name, text in variables().items() if not name.startswith("VBNFS_")}
    return {**others, "VBNFS_CONFIG": str(config_file)}


def is_completing() -> bool:
    """Whether a shell has started `vbnfs` to complete a line (click's "Shell Completion")."""
    return COMPLETING in os.environ


def web_token() -> str | None:
    """The token of the page that the program which has started `vbnfs web` has chosen; None: it has not."""
    return variables().get(WEB_TOKEN) or None


def user_data_directory() -> Path:
    """Where a user's programs keep what is no setting, such as manual pages: ~/.local/share."""
    return _in_home(platformdirs.user_data_path, ".local/share")


def user_state_directory() -> Path:
    """Where a user's programs keep their state: ~/.local/state."""
    return _in_home(platformdirs.user_state_path, ".local/state")


def user_cache_directory() -> Path:
    """Where vbnfs's cache is when no other folder is named: ~/.cache/vbnfs."""
    return _in_home(lambda: platformdirs.user_cache_path("vbnfs"), ".cache/vbnfs")


def user_log_file() -> Path:
    """Where the daemon logs when no other file is named: ~/.local/state/vbnfs/log/vbnfs.log."""
    return _in_home(lambda: platformdirs.user_log_path("vbnfs"), ".local/state/vbnfs/log") / "vbnfs.log"


def default_config_file() -> Path:
    """Where the TOML file is expected when no other is named: ~/.config/vbnfs/config.toml."""
    return user_config_directory() / "vbnfs" / "config.toml"


def user_config_directory() -> Path:
    """Where a user's programs keep their settings: ~/.config."""
    return _in_home(platformdirs.user_config_path, ".config")


def _in_home(find: Callable[[], Path], name: str) -> Path:
    """A folder in the user's home; in one that does not exist where neither HOME nor the list of users has a home."""
    try:
        return find()
    except RuntimeError:  # by platformdirs
        return Path("/nonexistent") / name


def foreign_home(environ: Mapping[str, str] | None = None) -> str | None:
    """HOME, if it is a folder of another user, as su(1) leaves it; None if it is this user's, or does not exist."""
    home = (variables() if environ is None else environ).get("HOME", "")
    try:
        return home if home and os.stat(home).st_uid != our_uid() else None
    except PermissionError:
        return home
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The program that started this process and expects notices from it, as systemd does: sd_notify(3).

    `watchdog_seconds` is how long it waits for the next notice before it acts (sd_watchdog_enabled(3)); None: it
    does not watch.
    """

    socket: str
    watchdog_seconds: float | None


def load_supervisor(environ: Mapping[str, str] | None = None, *, pid: int | None = None) -> Supervisor | None:
    """The supervisor that the environment names, or None. A watchdog of another process than `pid` (us) is none."""
    environ = variables() if environ is None else environ
    socket = environ.get("NOTIFY_SOCKET", "")
    if not socket.startswith(("/", "@")):  # anything else is no socket of this machine
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    is_ours = environ.get("WATCHDOG_PID", str(pid or os.getpid())) == str(pid or os.getpid())
    is_set = is_ours and re.fullmatch(r"0*[1-9]\d{0,17}", microseconds) is not None
    return Supervisor(socket, int(microseconds) / 1e6 if is_set else None)
