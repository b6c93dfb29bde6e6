"""The program that has the kernel read whole blocks, by itself. With a mount: tests/scenarios/test_page_filler.py."""

import os
import subprocess
import sys
from pathlib import Path

from vbnfs.filesystem import page_filler_program


def test_the_program_does_what_it_can(tmp_path: Path) -> None:
    """What cannot be opened is passed over; of what is named at once the last is read; it ends with its input."""
    named = [b"0 4096 %s\0" % os.fsencode(tmp_path / name) for name in ("nothing", "a folder that is not there/file")]
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(page_filler_program.__file__)],
        input=b"".join([*named, b"0 4096 %s\0" % os.fsencode(fifo), b"0 4096 cut sho"]),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
