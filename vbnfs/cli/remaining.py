"""What there is of vbnfs on this machine besides what `vbnfs install` has put in place, and what removes it."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.cli import render
from vbnfs.cli.install import is_package
from vbnfs.config.environment import default_config_file
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.errors import UsageError
from vbnfs.host.mountinfo import is_ours, list_mounts

_OF_UNITS: Final = (Path("/etc/vbnfs"), Path("/var/cache/vbnfs"))


def what_remains(*, is_user: bool) -> Iterator[str]:
    """A line for each thing that is still there, with what removes it."""
    if any(is_ours(entry) for entry in list_mounts()):
        yield "still mounted: 'vbnfs umount --all' takes all mounts away"
    try:
        config = load_config(command_line={})
    except UsageError as error:
        yield f"settings that cannot be read: {error}"
        config = None
    if config is not None:
        yield from _caches(config)
        if config.log_file.exists():
            yield f"the log remains: rm {shlex.quote(str(config.log_file))}"
    for folder in (default_config_file().parent, *(() if is_user else _OF_UNITS)):
        if _has_something(folder):
            yield f"{folder} remains ({render.size(_taken_bytes(folder))}): rm -r {shlex.quote(str(folder))}"
    yield f"the program remains: {_how_to_remove_the_program()}"


def _caches(config: Config) -> Iterator[str]:
    folder = config.cache_dir
    if _has_something(folder):
        taken, word = render.size(_taken_bytes(folder)), shlex.quote(str(folder))
        yield f"the cache {folder} remains ({taken}): 'vbnfs clean --all' frees it, or rm -r {word}"


def _has_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _taken_bytes(folder: Path) -> int:
    """What a folder's files take on the disk: they may be sparse."""
    taken = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                taken += os.lstat(os.path.join(where, name)).st_blocks * 512  # noqa: PTH118 - of many files
    return taken


def _how_to_remove_the_program() -> str:
    """By the installer that has made this environment, as its place shows."""
    if is_package():
        return "apt remove vbnfs"
    parts = Path(sys.prefix).parts
    if "pipx" in parts:
        return "pipx uninstall vbnfs"
    if "uv" in parts and "tools" in parts:
        return "uv tool uninstall vbnfs"
    if sys.prefix != sys.base_prefix:
        return f"pip uninstall vbnfs, or delete the environment {sys.prefix}"
    return "pip uninstall vbnfs"
