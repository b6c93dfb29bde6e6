"""`NameServer`: a DNS server that knows few names or none, or does not answer. Only root can run it, on port 53."""

import ipaddress
import socket
import threading
from types import TracebackType
from typing import Final, Self

NAME_SERVER: Final = "127.83.0.1"
# RFC 1035, 4.1.1: responses to a standard query; there is such a name, or not.
_THERE, _NOT_THERE = b"\x81\x80", b"\x81\x83"
_TYPES: Final = {1: 4, 28: 6}  # of records of addresses (A, AAAA), and the version of IP


class NameServer:
    """Listens at `address` while entered. `asked` counts questions; with `hangs` none is answered.

    One test at a time can have an address. `addresses` are those of each name; they may change.
    """

    def __init__(
        self, *, hangs: bool, addresses: dict[str, list[str]] | None = None, address: str = NAME_SERVER
    ) -> None:
        self.address = address
        self.asked = 0
        self.addresses = addresses or {}
        self._hangs = hangs
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._socket.bind((self.address, 53))
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
                self._socket.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        """RFC 1035, 4: header, the question, and records that refer to its name."""
        labels, end = [], 12
        while length := question[end]:
            labels.append(question[end + 1 : end + 1 + length].decode())
            end += 1 + length
        end += 5
        name, kind = ".".join(labels).lower(), int.from_bytes(question[end - 4 : end - 2])
        known = map(ipaddress.ip_address, self.addresses.get(name, []))
        found = [one.packed for one in known if one.version == _TYPES.get(kind)]
        records = b"".join(
            b"\xc0\x0c" + kind.to_bytes(2) + b"\0\1\0\0\0\x3c" + len(one).to_bytes(2) + one for one in found
        )
        flags = _THERE if name in self.addresses else _NOT_THERE
        counts = b"\0\1" + len(found).to_bytes(2) + bytes(4)
        return question[:2] + flags + counts + question[12:end] + records
