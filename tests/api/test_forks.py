"""Processes that are forked while threads of their parent wait for S3."""

import subprocess
import sys
import threading

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import Reply, Request, held
from tests.fakes.store import Pattern

PROGRAM = """
import os, sys, threading, vbnfs
dataset = vbnfs.Dataset()

def fork_when_asked(work):
    sys.stdin.readline()
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    print("forked", flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

opening = threading.Thread(target=lambda: dataset.versions)
opening.start()
fork_when_asked(lambda: dataset.versions == ["0.1.0"])
opening.join()
file = dataset.open("a.bin")
reading = threading.Thread(target=file.read)
reading.start()
fork_when_asked(lambda: len(file.read(5)) == 5)
reading.join()
"""


def is_about(request: Request, name: str) -> bool:
    """Whether a request lists a folder of that name, or gets what has it in its key."""
    return name in (request.query.get("prefix", "") if request.kind == "list_objects" else request.key)


def test_forked_while_a_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child waits for no lock of a thread that it has not: it opens the dataset, and reads the file, itself."""
    gates = {"manifests": threading.Event(), "a.bin": threading.Event()}

    def waiting(request: Request, honest: Reply) -> Reply | None:
        found = [gate for name, gate in gates.items() if is_about(request, name)]
        return held(found[0])(request, honest) if found else None

    with serve({"0.1.0": {"a.bin": Pattern(3_000_000, seed=1)}}) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        server.behaviours.append(waiting)
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            killing = threading.Timer(120, process.kill)
            killing.start()
            for name, gate in gates.items():
                server.wait_until(
                    lambda server, name=name: any(is_about(r, name) for r in server.requests), seconds=60
                )
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "forked\n"
                gate.set()
                assert process.stdout.readline() == "0\n"
            assert process.communicate(timeout=60) == ("", "")
            killing.cancel()
