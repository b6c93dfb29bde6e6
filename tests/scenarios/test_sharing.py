"""What docs/sharing-data.md shows, and the example of the command's help, on a real S3 server."""

import re
import shlex
from pathlib import Path

import pytest

from tests.fixtures_mount import run_vbnfs
from vbnfs.cli.examples import EXAMPLES
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sharing-data.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\b[\d.,]+( [KMGT]?i?B)?\b")


def runs() -> list[tuple[str, str]]:
    """Each line of the document that is typed, and what stands below it."""
    blocks = re.findall(r"^```\n(\$ .*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    typed = [
        run.partition("\n") for block in blocks for run in re.split(r"^\$ vbnfs ", block, flags=re.MULTILINE)[1:]
    ]
    return [(command, shown) for command, _, shown in typed]


def words(text: str) -> list[str]:
    """The words without numbers, in no order of lines: results and notes are written to two places."""
    lines = [line for line in text.splitlines() if "vbnfs: see" not in line]
    return sorted(NUMBER.sub("N", line) for line in lines)


@pytest.mark.scenario
@pytest.mark.slow
def test_the_page_on_sharing_is_true(
    seaweed: SeaweedServer, tiny_release: DemoRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command prints what the page shows; so does the help's example, which finds all there."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", seaweed.endpoint_url)
    disk = str(tmp_path / "usb")

    def run(command: str) -> str:
        typed = command.replace("/media/usb/vbn", disk).replace("Novel", "Familiar")  # as all of this release's are
        if command.startswith("import"):  # on the other machine
            monkeypatch.setenv("VBNFS_CACHE_DIR", str(tmp_path / "elsewhere"))
            monkeypatch.setenv("VBNFS_OFFLINE", "true")
        done = run_vbnfs(*shlex.split(typed))
        assert done.returncode == 0, (command, done.stderr)
        return (done.stdout + done.stderr).replace(disk, "/media/usb/vbn")

    [example] = (line.removeprefix("vbnfs ") for line, _ in EXAMPLES["export"])
    assert len(runs()) == 3
    for command, shown in runs():
        if command.startswith("import"):
            assert re.search(r"^(\d+) files: \1 there", run(example), re.MULTILINE)
        assert words(run(command)) == words(shown), command
