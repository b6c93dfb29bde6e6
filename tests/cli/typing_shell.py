"""An interactive shell on a terminal of its own, to which a test types."""

import os
import pty
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_SECONDS = 60.0
_READY = "ready-to-type"


def typed(shell: Sequence[str], begin: str, keys: str, expected: str, *, bin_folder: Path) -> bool:
    """Whether a shell, after the line `begin`, shows `expected` when `keys` are typed."""
    terminal, of_shell = pty.openpty()
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ "}
    process = subprocess.Popen(
        shell, stdin=of_shell, stdout=of_shell, stderr=of_shell, env=env, start_new_session=True
    )
    os.close(of_shell)
    try:
        # The quotes keep the typed line itself from being taken for its output.
        os.write(terminal, f"{begin}; echo ready-'to'-type\n".encode())
        shown = _until(terminal, _READY)
        os.write(terminal, keys.encode())
        return expected in (shown + _until(terminal, expected)).rpartition(_READY)[2]
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _until(terminal: int, text: str) -> str:
    """What a terminal shows until `text` comes, or nothing does any more."""
    shown, deadline = "", time.monotonic() + _SECONDS
    while text not in shown and (left := deadline - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                shown += os.read(terminal, 65536).decode(errors="replace").replace("\a", "")
            except OSError:  # the shell has ended
                break
    return shown
