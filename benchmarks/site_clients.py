"""Clients of a site cache that ask at the same moment, and how long each of their requests takes."""

import http.client
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

from vbnfs.blocks import BLOCK_BYTES

_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds of each request of all clients, sorted, and until the last client had all that it asked for."""

    requests: Sequence[float]
    slowest: float

    def quantile(self, part: float) -> float:
        """The time within which that part of the requests was answered."""
        return self.requests[min(len(self.requests) - 1, int(len(self.requests) * part))]


def ask_together(port: int, path: str, starts: Sequence[int], clients: int, *, shuffled: bool) -> Waits:
    """Each client asks for the blocks at all `starts`, one after the other; `shuffled`: each in its own order.

    Raises `RuntimeError` for an answer that is not the range.
    """
    barrier = threading.Barrier(clients)

    def ask(number: int) -> list[float]:
        order = random.Random(number).sample(starts, len(starts)) if shuffled else starts
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        try:
            connection.connect()
            barrier.wait(_SECONDS)
            return [_seconds(connection, path, start) for start in order]
        finally:
            connection.close()

    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(ask, range(clients)))
    return Waits(sorted(seconds for each in found for seconds in each), max(map(sum, found)))


def _seconds(connection: http.client.HTTPConnection, path: str, start: int) -> float:
    began = perf_counter()
    connection.request("GET", path, headers={"Range": f"bytes={start}-{start + BLOCK_BYTES - 1}"})
    reply = connection.getresponse()
    body = reply.read()
    if (reply.status, len(body)) != (206, BLOCK_BYTES):
        seconds = perf_counter() - began
        raise RuntimeError(f"{path}, {start}: status {reply.status}, {len(body)} bytes after {seconds:.2f} s")
    return perf_counter() - began


def ask_whole(port: int, path: str) -> float:
    """Seconds for an object as a whole, by one request. Raises `RuntimeError` for another answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    began = perf_counter()
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"{path}: status {reply.status}")
        while reply.read(1 << 20):
            pass
        return perf_counter() - began
    finally:
        connection.close()
