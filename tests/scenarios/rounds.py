"""How many rounds of requests a program waits for, as the server counts them."""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fakes.s3_server import FakeS3Server, Reply, Request

_QUIET_SECONDS: Final = 1.0  # without a new request, and with a program that does nothing: it waits for an answer

_RUNNABLE: Final = "R"


class _Rounds:
    """The behaviour of a server that answers ranges when no more of them come. What comes until then is a round.

    A mount asks once more for a range that keeps it waiting. That is no new one, and puts the answer off no further.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._came = self._answered = 0
        self._held: dict[tuple[str, str], int] = {}  # ranges that wait, by key, with the request that was the first
        self.count = 0

    def __call__(self, request: Request, _honest: Reply) -> None:
        if request.kind == "get_range":
            with self._changed:
                asked = (request.key, request.headers["range"])
                if self._held.get(asked, 0) <= self._answered:
                    self._came += 1
                    self._held[asked] = self._came
                    self._changed.notify_all()
                number = self._held[asked]
                self._changed.wait_for(lambda: self._answered >= number)

    def answer_while(self, process: subprocess.Popen[bytes]) -> None:
        """Answer round after round until a program has ended, and then what is left."""
        with self._changed:
            while process.poll() is None:
                before = _work_of(process.pid)
                is_quiet = not self._changed.wait(_QUIET_SECONDS) and _work_of(process.pid) == before != _RUNNABLE
                if is_quiet and self._came > self._answered:
                    self.count += 1
                    self._answer()
            self._answer()

    def _answer(self) -> None:
        self._answered = self._came
        self._changed.notify_all()

    def end(self) -> None:
        """Hold nothing back any more."""
        with self._changed:
            self._came = self._answered = 1 << 62
            self._changed.notify_all()


def _work_of(process: int) -> str:
    """The processor time that a process has used: utime and stime of proc(5); or that it could use some now."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return _RUNNABLE if fields[0] == _RUNNABLE else f"{fields[11]} {fields[12]}"


def rounds_of(command: Sequence[str], server: FakeS3Server) -> int:
    """Run a program, which has to succeed. Returns for how many rounds of ranges it waited.

    What nobody waits for, as the kernel's own reading ahead, makes no round.
    """
    rounds = _Rounds()
    server.behaviours.append(rounds)
    try:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            rounds.answer_while(process)
        assert process.returncode == 0
    finally:
        server.behaviours.remove(rounds)
        rounds.end()
    return rounds.count
