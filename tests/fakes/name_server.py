"""`NameServer`: a DNS server that knows no name, or does not answer. Only root can run it, on port 53."""

import socket
import threading
from types import TracebackType
from typing import Final, Self

NAME_SERVER: Final = "127.83.0.1"
_REPLY: Final = b"\x81\x83"  # RFC 1035, 4.1.1: a response to a standard query, there is no such name


class NameServer:
    """Listens at `NAME_SERVER` while entered. `asked` counts questions; with `hangs` none is answered."""

    def __init__(self, *, hangs: bool) -> None:
        self.asked = 0
        self._hangs = hangs
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._socket.bind((NAME_SERVER, 53))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(4096)
            if not question:
                return
            self.asked += 1
            if not self._hangs:
                self._socket.sendto(question[:2] + _REPLY + question[4:], asker)
