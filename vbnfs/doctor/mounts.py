"""The mounts that there are: whether each answers, and how it is."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from vbnfs import __version__
from vbnfs.access.mount_status import status_of
from vbnfs.daemon.trial import SOURCE
from vbnfs.doctor.findings import Finding, Level, failed, good, note, to_do
from vbnfs.errors import MountError
from vbnfs.host.mount_programs import is_alive
from vbnfs.host.mountinfo import MountEntry, is_ours, list_mounts

ANSWER_SECONDS: Final = 5.0
_AT_ONCE: Final = 64
_CONDITIONS: Final = {  # of a status, and the section that explains it
    "server_problem": "network-is-unreachable",
    "cache_problem": "disk-full-no-space-left-on-device",
}
_OF_PINS: Final = ("'vbnfs pins'", "pins-v1")


@dataclass(frozen=True, slots=True)
class MountFacts:
    """A mount, and its status or why there is none."""

    mountpoint: str
    status: Mapping[str, Any] | None = None
    failure: MountError | None = None


def ours() -> list[MountEntry]:
    """The mounts that this user is to see to. None of them is asked anything."""
    return [entry for entry in list_mounts() if is_ours(entry)]


async def ask_mounts(entries: list[MountEntry]) -> tuple[MountFacts, ...]:
    """The facts of each mount; all are asked at the same time. Trials count that a dead process has left."""
    found: dict[MountEntry, MountFacts | None] = {}
    at_once = trio.CapacityLimiter(_AT_ONCE)

    async def ask(entry: MountEntry) -> None:
        work = partial(_facts_of, entry)
        found[entry] = await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=at_once)

    async with trio.open_nursery() as nursery:
        for entry in entries:
            nursery.start_soon(ask, entry)
    return tuple(facts for entry in entries if (facts := found[entry]) is not None)


def _facts_of(entry: MountEntry) -> MountFacts | None:
    """None of a trial that is under way: another `vbnfs doctor` takes it away."""
    if entry.source == SOURCE and (entry not in list_mounts() or is_alive(entry.mountpoint)):
        return None
    try:
        return MountFacts(str(entry.mountpoint), status_of(entry, seconds=ANSWER_SECONDS))
    except MountError as error:
        return MountFacts(str(entry.mountpoint), failure=error)


def decide_mounts(facts: tuple[MountFacts, ...]) -> Iterator[Finding]:
    """Whether all mounts are well."""
    findings = [finding for one in facts for finding in _of_one(one)]
    yield from findings
    well = len(facts) - len([one for one in facts if one.failure is not None])
    if not any(finding.level is Level.TO_DO for finding in findings):
        yield good("nothing is mounted" if not facts else f"{well} mount{' answers' if well == 1 else 's answer'}")


def _of_one(facts: MountFacts) -> Iterator[Finding]:
    where, folder, status = facts.mountpoint, shlex.quote(facts.mountpoint), facts.status or {}
    if facts.failure is not None:
        yield failed(facts.failure)
    for name, section in _CONDITIONS.items():
        if problem := status.get(name):
            is_of_pins = any(words in problem for words in _OF_PINS)
            yield to_do(f"{where}: {problem}", section="nothing-is-kept-because-of-pins" if is_of_pins else section)
    for reason in status.get("refused", ()):
        yield note(f"{where}: not shown: {reason}")
    version = status.get("vbnfs_version", __version__)
    if version != __version__:
        yield note(
            f"{where}: it runs vbnfs {version}, and {__version__} is installed: 'vbnfs umount {folder}' and"
            f" 'vbnfs mount {folder}' change over"
        )
    if error := status.get("last_error"):
        yield note(f"{where}: the last error was: {error}")
