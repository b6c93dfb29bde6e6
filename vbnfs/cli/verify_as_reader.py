"""What `vbnfs verify` does in another user's mount: it shows what that has found, which hashes whole files itself.

That mount's cache is its owner's alone. What it has found of each file is an extended attribute for all who can read.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from vbnfs.cli.verify import FAILED, GOOD, INCOMPLETE, MISMATCH, NO_FILE, NO_HASH, Finding, Outcome, Show
from vbnfs.errors import MountError, UsageError
from vbnfs.host.identity import user_name, user_or_root
from vbnfs.host.mountinfo import absolute, is_ours, list_mounts

_ATTRIBUTE: Final = "user.vbnfs.verified"
# How the text of the attribute begins (reading/judged.py), and what it is called here.
_OUTCOMES: Final = (
    ("blake2b:", GOOD),
    ("no: mismatch", MISMATCH),
    ("no: the manifest has no hash", NO_HASH),
    ("no: ", INCOMPLETE),
)
_CANNOT_BE: Final = frozenset({NO_HASH, NO_FILE})


def is_wanted(paths: Sequence[Path], *, fetch: bool) -> bool:
    """Whether paths are in a mount of another user. Raises `UsageError` where more than reading is asked of it."""
    mounts = [entry for entry in list_mounts() if not is_ours(entry)]
    others = [entry for path in paths for entry in mounts if absolute(path).is_relative_to(entry.mountpoint)]
    if others and fetch:
        whose, who = user_name(others[0].owner), user_or_root(others[0].owner)
        raise UsageError(
            f"--fetch: the cache of {others[0].mountpoint} is {whose}'s: {who} can do that; a file that is read to"
            " its end ('cat FILE > /dev/null') is fetched, and hashed by the mount, too"
        )
    return bool(others)


def run(paths: Sequence[Path], *, show: Show) -> Outcome:
    """What the mount has found of the files at and below paths; `show` is called with each. Raises `MountError`."""
    seen, findings, barren = set[int](), list[Finding](), list[str]()
    for path in paths:
        outcomes = set[str]()
        for file in _files(path):
            finding = _finding(file)
            outcomes.add(finding.outcome)
            inode = os.stat(file).st_ino
            if inode not in seen:  # a file with several names is one
                seen.add(inode)
                findings.append(finding)
                show(finding)
        if outcomes <= _CANNOT_BE:
            barren.append(str(path))
    return Outcome(tuple(findings), tuple(barren))


def _files(path: Path) -> Iterator[Path]:
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error
    if not is_folder:
        yield path
        return
    for folder, _, names in os.walk(path, onerror=_raise):
        yield from (file for name in sorted(names) if not (file := Path(folder, name)).is_symlink())


def _raise(error: OSError) -> None:
    raise MountError(f"{error.filename}: {error.strerror}") from error


def _finding(path: Path) -> Finding:
    try:
        size_bytes = path.stat().st_size
        text = os.getxattr(path, _ATTRIBUTE).decode(errors="replace")
    except OSError as error:
        outcome = NO_FILE if error.errno == errno.ENODATA else FAILED
        return Finding(str(path), outcome, None, "" if outcome == NO_FILE else str(error.strerror))
    outcome = next((outcome for beginning, outcome in _OUTCOMES if text.startswith(beginning)), FAILED)
    return Finding(str(path), outcome, size_bytes, "" if outcome == GOOD else text.removeprefix("no: "))
