"""The limit of what FUSE can give: a file system that answers zeros."""

import os
from pathlib import Path

from benchmarks.speed.files import SESSION, Files
from benchmarks.speed.origin import PLAIN, PROFILES, Listener
from benchmarks.speed.systems.base import Site
from benchmarks.speed.systems.zeros import NAME, Zeros

SIZE_BYTES = (3 << 20) + 5


def test_it_is_a_file_of_zeros(tmp_path: Path) -> None:
    """As long as the session. It can be listed and read, again and at random, and goes away when it is stopped."""
    session = tmp_path / "files" / SESSION
    session.parent.mkdir(parents=True)
    session.write_bytes(bytes(SIZE_BYTES))
    site = Site(Files(tmp_path / "files", ()), Listener(PROFILES[0], PLAIN, 1), tmp_path / "no certificate", 1)
    system = Zeros("zeros", site, tmp_path / "zeros")
    system.start()
    try:
        path = Path(system.location("any name"))
        assert os.listdir(path.parent) == [NAME.decode()]
        assert path.read_bytes() == bytes(SIZE_BYTES)
        with path.open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 10, SIZE_BYTES - 3) == bytes(3)
    finally:
        system.stop()
    assert os.listdir(system.mountpoint) == []
