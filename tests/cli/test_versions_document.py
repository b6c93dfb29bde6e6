"""What docs/versions.md shows of `vbnfs diff` is what the demo's release gives."""

import re
from pathlib import Path

import pytest

from tests.fixtures_mount import run_vbnfs
from vbnfs.config.settings import GIB, KIB, MIB
from vbnfs.demo.release import make_release
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import BUCKET, upload

DOCUMENT = (Path(__file__).parents[2] / "docs" / "versions.md").read_text(encoding="utf-8")
SIZE = re.compile(r"\b([0-9.]+)( [KMG]iB|[KMG])\b")


def sizes(text: str) -> list[float]:
    """The sizes in a text, in bytes."""
    return [float(number) * {"K": KIB, "M": MIB, "G": GIB}[unit.strip()[0]] for number, unit in SIZE.findall(text)]


def words(text: str) -> list[str]:
    """Everything but the sizes, which differ a little from one version of HDF5 to the next."""
    return SIZE.sub("SIZE", text).split()


def test_the_example_is_true(tmp_path: Path) -> None:
    """The document has the output's lines up to its list of files, and the first of that; sizes within a tenth."""
    [(command, shown)] = re.findall(r"`vbnfs (diff [^`]*)`.*?```\n(.*?)\.\.\.\n```", DOCUMENT, re.DOTALL)[:1]
    with SeaweedServer(tmp_path / "s3") as server:
        release = make_release(tmp_path / "release")
        server.make_bucket(BUCKET)
        upload(release, server.client())
        done = run_vbnfs(*command.split(), "--endpoint-url", server.endpoint_url)
    assert (done.returncode, done.stderr) == (0, "")
    printed = "".join(done.stdout.splitlines(keepends=True)[: shown.count("\n")])
    assert words(shown) == words(printed)
    assert sizes(shown) == pytest.approx(sizes(printed), rel=0.1)
