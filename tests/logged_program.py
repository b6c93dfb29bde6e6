"""A server of another project's, as a process that writes a log."""

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import until


@contextmanager
def logged_program(
    command: Sequence[str | Path], folder: Path, *, env: Mapping[str, str], is_there: Callable[[], bool]
) -> Iterator[None]:
    """A program that runs in a folder while entered, from when it `is_there`. An error has the end of its log."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(env), cwd=folder
        )
    try:
        until(lambda: is_there() or process.poll() is not None, seconds=120)
        yield
    except BaseException as error:
        error.add_note((folder / "log").read_text()[-6000:])
        raise
    finally:
        process.terminate()
        process.wait(60)
