"""README.md's first Python, as it stands but for the home folder and the session: without a mount, and with one."""

import sys
from pathlib import Path

from tests.code_blocks import SESSION_ID, blocks_of, reader, run
from tests.fixtures_mount import Mount
from tests.scenarios.readers.truth import Truth
from vbnfs.demo.server import SeaweedServer


def test_a_table_and_a_unit(mount: Mount, seaweed: SeaweedServer, truth: Truth, tmp_path: Path) -> None:
    """They read a session's units, the table of sessions, and a unit's spikes.

    tests/scenarios/allensdk calls what the rest calls.
    """
    home = mount.path.parent
    alone, mounted, for_allensdk = (block.code for block in blocks_of("README.md") if block.language == "python")

    def printed(code: str, what: str) -> str:
        code = code.replace("/home/me", str(home)).replace(SESSION_ID, truth.session_id)
        env = reader(home, VBNFS_ENDPOINT_URL=seaweed.endpoint_url, VBNFS_CACHE_DIR=str(tmp_path / "cache"))
        return run(sys.executable, "-c", f"{code}\nprint({what})", folder=tmp_path, env=env)

    spikes = len(truth.array("units/spike_times"))
    assert printed(alone, "len(units), len(spikes)") == f"{len(truth.units)} {spikes}\n"
    sessions = len(truth.table("ecephys_sessions"))
    assert printed(mounted, "len(sessions), len(spikes)") == f"{sessions} {len(truth.spike_times(0))}\n"
    assert "import" in for_allensdk
    assert "allensdk" in for_allensdk
