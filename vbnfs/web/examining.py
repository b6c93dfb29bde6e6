"""What `vbnfs doctor` finds, for the page: an examination in a thread, one at a time, whose findings stay."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.errors import VbnfsError, with_remedy

Finding = Mapping[str, str | None]  # check, level, text, remedy, see
Examine = Callable[[], Sequence[Finding]]

TO_DO: Final = "to do"  # a level


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known now. `findings`: what needs doing first; None before the first examination has ended."""

    is_running: bool
    findings: Sequence[Finding] | None = None
    ended: float | None = None  # since 1970
    failure: str | None = None

    @property
    def needs(self) -> int:
        """How many things need doing."""
        return sum(one["level"] == TO_DO for one in self.findings or ())


class Examining:
    """The last examination of this machine. Thread-safe."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self._lock = threading.Lock()
        self._now = Examined(is_running=False)

    @property
    def now(self) -> Examined:
        """The last one, or the one that is under way."""
        with self._lock:
            return self._now

    def begin(self) -> None:
        """Begin one, unless one is under way."""
        with self._lock:
            if self._now.is_running:
                return
            self._now = Examined(is_running=True)
        threading.Thread(target=self._run, name="doctor", daemon=True).start()

    def _run(self) -> None:
        try:
            found = sorted(self._examine(), key=lambda one: one["level"] != TO_DO)
            ended = Examined(is_running=False, findings=found, ended=time.time())
        except Exception as error:  # else it would seem to run as long as the page is served
            ended = Examined(is_running=False, failure=f"The examination failed: {_why(error)}")
        with self._lock:
            self._now = ended


def _why(error: Exception) -> str:
    if isinstance(error, VbnfsError):
        return with_remedy(error)
    if isinstance(error, OSError):
        return str(error)
    return f"a defect of vbnfs ({type(error).__name__}: {error}); please report it"
