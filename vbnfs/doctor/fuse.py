"""Whether a mount can be made here, and whether the kernel reads files by itself: by a trial."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from vbnfs.config.settings import Config
from vbnfs.daemon.assembly import why_no_passthrough
from vbnfs.daemon.machine import check_device
from vbnfs.daemon.readers import check_readers, problems_of_sharing
from vbnfs.daemon.trial import Trial, try_mount
from vbnfs.doctor.findings import Finding, failed, good, left_out, note, to_do
from vbnfs.errors import MountError
from vbnfs.host.capabilities import SYS_ADMIN, has_capability
from vbnfs.host.mount_programs import fusermount

_CONFIGURATION: Final = Path("/etc/fuse.conf")
_VERSION_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseFacts:
    """`way` is what mounts: `mount(2)`, or fusermount3 with its version.

    `unwanted`: why settings keep the kernel from reading files by itself. By /etc/fuse.conf, `most_mounts` is what
    users may have, and `lets_others_in` whether theirs may have allow_other.
    """

    way: str
    trial: Trial
    unwanted: str | None
    sharing_problems: tuple[str, ...]
    lets_others_in: bool
    most_mounts: int | None


async def ask_fuse(config: Config) -> FuseFacts:
    """The facts. A mount is made and taken away."""
    try:
        check_device()
        check_readers(config)
        trial = await try_mount(config)
    except MountError as error:
        trial = Trial(error)
    text = _configuration()
    most = re.search(r"^\s*mount_max\s*=\s*(\d+)", text, re.MULTILINE)
    return FuseFacts(
        way=await trio.to_thread.run_sync(_way),
        trial=trial,
        unwanted=why_no_passthrough(config, is_local=True),
        sharing_problems=problems_of_sharing(config),
        lets_others_in=re.search(r"^\s*user_allow_other\s*$", text, re.MULTILINE) is not None,
        most_mounts=int(most[1]) if most else None,
    )


def _configuration() -> str:
    """That of fusermount3 (mount.fuse3(8)); '' where there is none."""
    try:
        return _CONFIGURATION.read_text(errors="replace")
    except OSError:
        return ""


def _way() -> str:
    if has_capability(SYS_ADMIN):
        return "mount(2)"
    try:
        done = subprocess.run(
            [fusermount(), "--version"], capture_output=True, check=False, timeout=_VERSION_SECONDS, text=True
        )
    except (MountError, OSError, subprocess.TimeoutExpired):
        return "fusermount3"
    version = re.search(r"\d+(\.\d+)+", done.stdout)
    return f"fusermount3 {version[0]}" if version else "fusermount3"


def decide_fuse(facts: FuseFacts) -> Iterator[Finding]:
    """Whether a mount can be made."""
    for problem in facts.sharing_problems:
        yield to_do(problem, section="the-system-refuses-the-mount")
    if facts.trial.refusal is not None:
        yield failed(facts.trial.refusal)
        return
    is_users = facts.way != "mount(2)"
    others = "may" if facts.lets_others_in else "may not"
    most = "" if facts.most_mounts is None else f", {facts.most_mounts:,} at the most"
    bounds = f"; by /etc/fuse.conf a user's mounts{most} {others} have allow_other" if is_users else ""
    yield good(f"a mount can be made, by {facts.way}{bounds}")


def decide_passthrough(facts: FuseFacts, *, is_local: bool) -> Iterator[Finding]:
    """Whether the kernel reads whole cached files by itself. `is_local`: the cache's disk is this machine's."""
    if facts.trial.refusal is not None:
        yield left_out("no mount can be made")
        return
    elsewhere = None if is_local else "the cache is on a file system that other hosts may change"
    reason = facts.unwanted or facts.trial.no_passthrough or elsewhere
    yield (
        good("the kernel reads whole cached files by itself")
        if reason is None
        else note(f"the kernel reads no file by itself, which costs speed alone: {reason}")
    )
