"""Asking the cache's disk, by a process of its own.

A disk may hang, and a process that asks it then cannot end. So another process asks (disk_program.py), which is left
behind if no answer comes.
"""

import subprocess
import sys
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from vbnfs.config.settings import Config
from vbnfs.doctor.disk import DiskFacts
from vbnfs.doctor.disk_messages import decode, encode

_END_SECONDS: Final = 1.0  # of a process that was killed, and waits for nothing


async def ask_disk(config: Config) -> DiskFacts:
    """The facts, by a process of its own, which is killed when this is cancelled. Raises `RuntimeError` for a defect.

    It waits for no end of a process that cannot end.
    """
    process = _start()
    try:
        asked = partial(process.communicate, encode(config))
        answer, complaint = await trio.to_thread.run_sync(asked, abandon_on_cancel=True)
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(complaint.decode(errors="replace").strip().rpartition("\n")[2])
    facts: DiskFacts = decode(answer)
    return facts


def _start() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "vbnfs.doctor.disk_program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the one who asks
    )
