"""Fetches that no mount does, as other processes see them: while they go on, and not longer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vbnfs.access.running_fetches import running_fetches, shown
from vbnfs.config.sources import load_config
from vbnfs.errors import MountError
from vbnfs.figures import Fill

FILL = Fill(files=44, done_files=12, count_bytes=100 << 20, done_bytes=20 << 20)
DIE = """
import os
from vbnfs.access import running_fetches
from vbnfs.config.sources import load_config
from vbnfs.figures import Fill
from vbnfs.host import runtime
from pathlib import Path
import sys
runtime.runtime_directories = lambda owner: [Path(sys.argv[1])]
with running_fetches.shown(load_config(command_line={})) as show:
    show(Fill(1, 0, 1, 0))
    os._exit(0)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which is this test's alone."""
    place = tmp_path / "runtime"
    for module in ("vbnfs.host.runtime", "vbnfs.access.running_fetches"):
        monkeypatch.setattr(f"{module}.runtime_directories", lambda owner: [place])
    return place


def test_a_fetch_is_shown_while_it_goes_on(folder: Path, tmp_path: Path) -> None:
    """With its process, dataset, cache and how far it is: the last that was said. Then nothing is left of it."""
    assert running_fetches() == []
    with shown(load_config(command_line={})) as show:
        assert running_fetches() == []  # nothing was said yet
        show(FILL)
        show(Fill(1, 0, 1, 0))  # a shorter text
        [fetch] = running_fetches()
        assert (fetch.pid, fetch.dataset) == (os.getpid(), "visual-behavior-neuropixels")
        assert (fetch.cache_dir, fetch.fill) == (str(tmp_path / "cache"), Fill(1, 0, 1, 0))
        assert fetch.program == Path("/proc/self/comm").read_text().rstrip()
        with shown(load_config(command_line={})) as second:
            second(FILL)
            assert [one.fill for one in running_fetches()] == [Fill(1, 0, 1, 0), FILL]  # the one that began first
    assert os.listdir(folder) == []


def test_what_a_dead_process_left(folder: Path) -> None:
    """It is no fetch, and is deleted; what is no description of a fetch is passed over."""
    subprocess.run([sys.executable, "-c", DIE, folder], check=True)
    assert len(os.listdir(folder)) == 1
    assert running_fetches() == []
    assert os.listdir(folder) == []
    with shown(load_config(command_line={})) as show:
        show(FILL)
        [file] = folder.iterdir()
        for text in ("[]", '{"pid": "x"}', "[" * 100_000, "\x00"):
            file.write_text(text)
            assert running_fetches() == [], text[:20]


def test_a_folder_that_cannot_be_had(folder: Path) -> None:
    """Then nothing is shown, and there is nothing to see."""
    folder.write_text("")
    assert running_fetches() == []
    with pytest.raises(MountError), shown(load_config(command_line={})):
        pass
