"""What is asked anew now and then, while somebody looks: a view goes by what is known, a later one by the answer.

That is stale-while-revalidate (RFC 5861): no view waits for it, and while no page is open nothing is asked.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from vbnfs.errors import VbnfsError

log = structlog.get_logger()


class Renewing:
    """Calls `renew` in a thread, at most once in `seconds`. Thread-safe."""

    def __init__(self, renew: Callable[[], object], seconds: float) -> None:
        self._renew: Final = renew
        self._seconds: Final = seconds
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._is_running = False

    def look(self) -> None:
        """Somebody looks now."""
        with self._lock:
            if self._is_running or time.monotonic() - self._began < self._seconds:
                return
            self._is_running, self._began = True, time.monotonic()
        threading.Thread(target=self._run, name="renewing", daemon=True).start()

    def _run(self) -> None:
        try:
            self._renew()
        except (VbnfsError, ValueError) as error:  # `Connection.run`: it may be closed meanwhile
            log.warning("the list of versions cannot be renewed", error=str(error))
        finally:
            with self._lock:
                self._is_running = False
