"""Running programs side by side, and timing each of them."""

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final

_PATIENCE_SECONDS: Final = 600.0


def run_all(commands: Sequence[Sequence[str]], env: Mapping[str, str] | None = None) -> list[float]:
    """Run commands at once; how long each took, in seconds. None is left, however it ends.

    Raises:
        CalledProcessError: one failed.
        TimeoutExpired: one took longer than ten minutes.

    """
    with ExitStack() as stack:
        processes = []
        for command in commands:
            process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            stack.callback(end, process)
            processes.append((process, time.monotonic()))
        return wait_for_all(processes)


def wait_for_all(processes: Sequence[tuple["subprocess.Popen[bytes]", float]]) -> list[float]:
    """Wait for processes that have begun at a time of `time.monotonic`; how long each took. Raises as `run_all`."""
    waiting = {os.pidfd_open(process.pid): number for number, (process, _) in enumerate(processes)}
    seconds = [0.0] * len(processes)
    poll, deadline = select.poll(), time.monotonic() + _PATIENCE_SECONDS
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    try:
        while waiting:
            ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            now = time.monotonic()
            if not ended:
                raise subprocess.TimeoutExpired(processes[0][0].args, _PATIENCE_SECONDS)
            for descriptor, _ in ended:
                number = waiting.pop(descriptor)
                poll.unregister(descriptor)
                os.close(descriptor)
                process, began = processes[number]
                seconds[number] = now - began
                if process.wait():
                    raise subprocess.CalledProcessError(process.returncode, process.args)
    finally:
        for descriptor in waiting:
            os.close(descriptor)
    return seconds


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that still runs, and wait for its end."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def cat(paths: Sequence[str], *, bytes_each: int | None = None) -> list[float]:
    """Read files at once, each with a program of its own; how long each took, in seconds. Raises as `run_all`."""
    head = ["cat"] if bytes_each is None else ["head", "-c", str(bytes_each)]
    return run_all([[*head, path] for path in paths])


def output_of(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a program prints.

    Raises:
        RuntimeError: it failed; the end of what it says is in the message.
        TimeoutExpired: it took longer than ten minutes.

    """
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-500:].strip()}")
    return done.stdout
