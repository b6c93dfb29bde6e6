"""`vbnfs web` as a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.fakes.s3_server import FakeS3Server

Served = tuple[str, "subprocess.Popen[str]"]


@contextmanager
def page(server: FakeS3Server, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The address that it has printed, '' for none, and its process; `env`: variables besides those of the tests."""
    command = [sys.executable, "-m", "vbnfs", "web", "--endpoint-url", server.endpoint_url, *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=[0-9a-f]{64}", process.stdout.readline())
        try:
            yield found[0] if found else "", process
        finally:
            process.kill()
