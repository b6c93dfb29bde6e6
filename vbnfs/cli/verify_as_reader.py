"""What `vbnfs verify` does in another user's mount: it shows what that has found, which hashes whole files itself.

That mount's cache is its owner's alone. What it has found of each file is an extended attribute for all who can read.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from vbnfs.access.running_mounts import ANSWER_SECONDS
from vbnfs.access.verifying import (
    FAILED,
    GOOD,
    INCOMPLETE,
    MISMATCH,
    NO_FILE,
    NO_HASH,
    Finding,
    Outcome,
    Show,
)
from vbnfs.errors import MountError, UsageError
from vbnfs.host.apart import Found, attributes_below
from vbnfs.host.identity import user_name, user_or_root
from vbnfs.host.mountinfo import MountEntry, absolute, is_ours, list_mounts

_ATTRIBUTE: Final = "user.vbnfs.verified"
# How the text of the attribute begins (reading/judged.py), and what it is called here.
_OUTCOMES: Final = (
    ("blake2b:", GOOD),
    ("no: mismatch", MISMATCH),
    ("no: the manifest has no hash", NO_HASH),
    ("no: ", INCOMPLETE),
)
_MOST_FILES: Final = 1 << 20  # a mount may be anybody's, and show files without end
_CANNOT_BE: Final = frozenset({NO_HASH, NO_FILE})


def is_wanted(paths: Sequence[Path], *, fetch: bool) -> bool:
    """Whether paths are in a mount of another user. Raises `UsageError` where more than reading is asked of it."""
    others = _others(paths)
    if others and fetch:
        whose, who = user_name(others[0].owner), user_or_root(others[0].owner)
        raise UsageError(
            f"--fetch: the cache of {others[0].mountpoint} is {whose}'s: {who} can do that; a file that is read to"
            " its end ('cat FILE > /dev/null') is fetched, and hashed by the mount, too"
        )
    return bool(others)


def _others(paths: Sequence[Path]) -> list[MountEntry]:
    """The mounts of other users in which paths are. Touches none."""
    mounts = [entry for entry in list_mounts() if not is_ours(entry)]
    return [entry for path in paths for entry in mounts if absolute(path).is_relative_to(entry.mountpoint)]


def run(paths: Sequence[Path], *, show: Show, seconds: float = ANSWER_SECONDS) -> Outcome:
    """What the mount has found of the files at and below paths; `show` is called with each. Raises `MountError`.

    So it does where no answer comes for some `seconds`, and where there are more files than datasets have.
    """
    seen, findings = set[int](), list[Finding]()
    outcomes: list[set[str]] = [set() for _ in paths]
    for found in _found(paths, seconds):
        finding = _finding(found)
        outcomes[found.number].add(finding.outcome)
        if found.inode not in seen:  # a file with several names is one
            seen.add(found.inode)
            findings.append(finding)
            show(finding)
        if len(findings) > _MOST_FILES:
            raise MountError(
                f"{paths[found.number]}: its daemon's answers have no end: more than {_MOST_FILES:,} files"
            )
    barren = [str(path) for path, words in zip(paths, outcomes, strict=True) if words <= _CANNOT_BE]
    return Outcome(tuple(findings), tuple(barren))


def _found(paths: Sequence[Path], seconds: float) -> Iterator[Found]:
    """`attributes_below`, which touches the mount. Raises `MountError`."""
    try:
        yield from attributes_below(paths, _ATTRIBUTE, seconds=seconds)
    except TimeoutError as error:
        where = next((entry.mountpoint for entry in _others(paths)), paths[0])
        raise MountError(f"{where}: its daemon does not answer: nothing has come for {seconds:g} s") from error
    except OSError as error:
        raise MountError(f"{error.filename}: {error.strerror}") from error


def _finding(found: Found) -> Finding:
    path = str(Path(found.path))
    if found.value is None:
        outcome = NO_FILE if found.errno == errno.ENODATA else FAILED
        return Finding(path, outcome, None, "" if outcome == NO_FILE else os.strerror(found.errno))
    outcome = next((outcome for beginning, outcome in _OUTCOMES if found.value.startswith(beginning)), FAILED)
    return Finding(path, outcome, found.size_bytes, "" if outcome == GOOD else found.value.removeprefix("no: "))
