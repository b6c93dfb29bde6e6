"""Who reads the open files of a mount, the kernel or the daemon, and which program keeps one from the kernel.

While a file is open from before it was checked, the daemon serves all who open it: so people want to know who has it.
The kernel says with each OPEN which thread asks. Whether that program has the file still, or has handed it on, nobody
knows without going through all processes.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import trio

from vbnfs.dataset.tree import Tree
from vbnfs.filesystem.passthrough import Passthrough
from vbnfs.filesystem.readers import path_in
from vbnfs.host.processes import program_of
from vbnfs.objects import Content
from vbnfs.reading.file_reader import FileReader

_MOST_ROWS: Final = 10  # of the status, which is one line of 64 KiB
_OPENED_BEFORE: Final = "has it open from before it was checked"


class OpenFile(NamedTuple):
    """What stands behind a handle: a reader, or bytes in memory (without a content). `pid` is the thread's."""

    inode: int
    file: FileReader | bytes
    content: Content | None
    pid: int


class OldHandle(NamedTuple):
    """A file that the kernel could read, and the thread that has opened it for the daemon to read."""

    inode: int
    pid: int


def old_handles(opened: Iterable[OpenFile], passthrough: Passthrough) -> list[OldHandle]:
    """What keeps checked files from the kernel, each program once for a file."""
    if passthrough.reason is not None:
        return []
    kept = (
        OldHandle(one.inode, one.pid)
        for one in opened
        if one.content is not None and not passthrough.is_passed(one.inode) and passthrough.files.has(one.content)
    )
    return list(dict.fromkeys(kept))


async def report(opened: Iterable[OpenFile], passthrough: Passthrough, tree: Tree) -> dict[str, Any]:
    """For `vbnfs status`: why the kernel reads no files, which ones it reads, and who keeps it from others."""
    opened = list(opened)
    passed = sorted({one.inode for one in opened if passthrough.is_passed(one.inode)})
    kept = old_handles(opened, passthrough)

    def rows() -> dict[str, Any]:
        return {
            "files": [path_in(tree, inode) for inode in passed[:_MOST_ROWS]],
            "old_handles": [{"file": path_in(tree, one.inode), **_program(one.pid)} for one in kept[:_MOST_ROWS]],
        }

    return {"reason": passthrough.reason, "open_files": len(passed), **await trio.to_thread.run_sync(rows)}


def _program(pid: int) -> dict[str, Any]:
    program = program_of(pid)
    return {"pid": pid, "program": None} if program is None else {"pid": program.pid, "program": program.name}


def describe(inode: int, content: Content, opened: Callable[[], Iterable[OpenFile]], passthrough: Passthrough) -> str:
    """For the extended attribute `user.vbnfs.read_by`: who reads it if it is opened now, and why not the kernel."""
    if passthrough.reason is not None:
        return f"daemon: {passthrough.reason}"
    if passthrough.is_passed(inode):
        return "kernel"
    if not passthrough.files.has(content):
        return "daemon: this cache does not have it whole, or it is not checked yet"
    pids = [one.pid for one in old_handles(opened(), passthrough) if one.inode == inode]
    if not pids:
        return "kernel"
    program = program_of(pids[0])
    who = "a program that is gone" if program is None else f"{program.name} (pid {program.pid})"
    return f"daemon: {who} {_OPENED_BEFORE}"
