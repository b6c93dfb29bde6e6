"""Engines: what each declares is so, and stands in the documents. What a mount does by each is in test_device.py."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.fuse.test_device import SUBTYPE, Files
from vbnfs.errors import MountError
from vbnfs.fuse import protocol, pyfuse3_engine
from vbnfs.fuse.engines import ENGINES, NATIVE, PYFUSE3, Capabilities, load
from vbnfs.host.mountinfo import find_mount

MOUNTING = Path(__file__).parents[2] / "docs" / "mounting.md"
SHOWN = {"True": "yes", "False": "no", "None": "no limit"}


def test_the_table_of_differences() -> None:
    """docs/mounting.md shows every capability of every engine, in a row each, and nothing else."""
    section = MOUNTING.read_text(encoding="utf-8").partition("## Engines")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    assert rows[0] == ["", *(f"`{name}`" for name in ENGINES)]
    assert rows[2:] == [
        [
            field.metadata["meaning"],
            *(
                re.sub(r"^\w+$", lambda m: SHOWN.get(m[0], m[0]), str(getattr(e, field.name)))
                for e in ENGINES.values()
            ),
        ]
        for field in fields(Capabilities)
    ]


def test_declared_numbers() -> None:
    """The numbers that are declared are those that the kernel and pyfuse3 get."""
    assert ENGINES[NATIVE].background_reads == protocol._MAX_BACKGROUND
    assert ENGINES[PYFUSE3].waiting_requests == pyfuse3_engine.MOST_REQUESTS


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("folder", "options", "reason"),
    [("missing", (), "No such file or directory"), ("", ("no_such_option",), "option")],
)
def test_why_a_mount_fails(mountpoint: Path, engine: str, folder: str, options: tuple[str, ...], reason: str) -> None:
    """The mount point is named, with the reason of the program or library that mounts; nothing is mounted."""
    with pytest.raises(MountError) as caught:
        load(engine)(mountpoint / folder, ["ro", SUBTYPE, *options], Files({}), is_busy=lambda: False)
    assert str(caught.value).startswith(f"{mountpoint / folder}: cannot be mounted: ")
    assert reason in str(caught.value)
    assert find_mount(mountpoint) is None
