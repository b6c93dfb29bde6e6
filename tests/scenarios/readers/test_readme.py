"""README.md's first Python, as it stands but for the home folder and the session."""

import sys
from pathlib import Path

from tests.code_blocks import SESSION_ID, blocks_of, reader, run
from tests.fixtures_mount import Mount
from tests.scenarios.readers.truth import Truth


def test_a_table_and_a_unit(mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """It reads the table of sessions, and a unit's spikes. tests/scenarios/allensdk calls what the rest calls."""
    home = mount.path.parent
    code, for_allensdk = (block.code for block in blocks_of("README.md") if block.language == "python")
    code = code.replace("/home/me", str(home)).replace(SESSION_ID, truth.session_id)
    printed = run(
        sys.executable, "-c", f"{code}\nprint(len(sessions), len(spikes))", folder=tmp_path, env=reader(home)
    )
    assert printed == f"{len(truth.table('ecephys_sessions'))} {len(truth.spike_times(0))}\n"
    assert "import" in for_allensdk
    assert "allensdk" in for_allensdk
