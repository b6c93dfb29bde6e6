"""Python libraries that users have: each reads in programs of its own (`streams.py`). They keep nothing."""

import json
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks.speed.systems.base import BENCH_BIN, ROOT, System
from benchmarks.speed.systems.programs import end, output_of, wait_for_all

_STREAMS: Final = ROOT / "benchmarks" / "speed" / "streams.py"


class Client(System):
    """A library that brings a file's bytes in order, by the system's name: boto3, awscrt or mountpoint-client."""

    _processor_seconds = 0.0

    def location(self, name: str) -> str:
        """An address."""
        return self.site.url(name)

    def read_whole(self, name: str) -> float:
        """The program's own seconds, without starting Python and without imports."""
        report = json.loads(output_of(self._command(name), self.site.environment))
        self._processor_seconds += report["processor_seconds"]
        return float(report["seconds"])

    def read_heads(self, names: Sequence[str], bytes_each: int) -> list[float]:
        """The programs begin to read when all have imported what they need."""
        with ExitStack() as stack:
            processes = []
            for name in names:
                process = subprocess.Popen(
                    self._command(name, "--bytes", str(bytes_each), "--wait"),
                    env=self.site.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                stack.callback(end, process)
                processes.append(process)
            for process in processes:
                assert process.stdout is not None
                process.stdout.readline()
            began = time.monotonic()
            for process in processes:
                assert process.stdin is not None
                process.stdin.close()
            seconds = wait_for_all([(process, began) for process in processes])
            for process in processes:
                assert process.stdout is not None
                self._processor_seconds += json.loads(process.stdout.read())["processor_seconds"]
            return seconds

    def digest(self, name: str) -> str:
        """Of what the library brings."""
        report = json.loads(output_of(self._command(name, "--digest"), self.site.environment))
        return str(report["digest"])

    def processor_seconds(self) -> float:
        """Of the programs, while they read."""
        return self._processor_seconds

    def _command(self, name: str, *options: str) -> list[str]:
        python = [str(BENCH_BIN / "python"), "-W", "ignore", str(_STREAMS)]
        size = ["--bytes", str(self.site.files.size_bytes(name))] if "--bytes" not in options else []
        where = [self.name, self.site.url(name), "--connections", str(self.site.connections)]
        return [*python, *where, "--file", str(self.directory / "file"), *size, *options]


class Library(Client):
    """One that opens an address as a file object, which h5py takes, too: remfile or fsspec."""

    def location(self, name: str) -> str:
        """The library, and an address."""
        return f"{self.name}:{self.site.url(name)}"
