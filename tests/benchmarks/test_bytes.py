"""The bytes of every system are compared with the original's."""

from pathlib import Path

import pytest

from benchmarks.speed.files import SESSION, Files
from benchmarks.speed.measuring import WrongBytesError, has_right_bytes
from benchmarks.speed.origin import PLAIN, PROFILES, Listener
from benchmarks.speed.systems.base import Site
from benchmarks.speed.systems.local import Local
from benchmarks.speed.systems.zeros import Zeros


def test_wrong_bytes_are_found(tmp_path: Path) -> None:
    """The same length is not enough."""
    site = site_of(tmp_path, b"right")
    local = Local("local", site, tmp_path / "local")
    assert has_right_bytes(local)
    Path(local.location(SESSION)).write_bytes(b"wrong")
    with pytest.raises(WrongBytesError, match="BLAKE2b"):
        has_right_bytes(local)


def test_zeros_have_no_bytes_to_compare(tmp_path: Path) -> None:
    """So it is not among those that were found right."""
    assert not has_right_bytes(Zeros("zeros", site_of(tmp_path, b"right"), tmp_path / "zeros"))


def site_of(place: Path, data: bytes) -> Site:
    session = place / "files" / SESSION
    session.parent.mkdir(parents=True)
    session.write_bytes(data)
    return Site(Files(place / "files", ()), Listener(PROFILES[0], PLAIN, 1), place / "no certificate", 1)
