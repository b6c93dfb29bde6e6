"""AllenSDK, unmodified, on a folder that `vbnfs export` made, where there is no network."""

from pathlib import Path

import pytest

from tests.fixtures_mount import run_vbnfs
from tests.scenarios.allensdk.sdk import ask
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease

pytestmark = pytest.mark.slow

NOWHERE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}


def test_from_local_cache(seaweed: SeaweedServer, tiny_release: DemoRelease, tmp_path: Path) -> None:
    """The folder is a cache_dir as it is: tables are listed, a session and its LFP are read, without a warning.

    A second version, exported into the same folder, is listed and loaded, too.
    """
    version, older = tiny_release.versions[-1], tiny_release.versions[-2]
    out = tmp_path / "usb"
    session = next(path.split("/")[1] for path in tiny_release.files[older] if path.endswith("_lfp.nwb"))
    query = f"ecephys_session_id == {session}"
    for one in (version, older):
        arguments = ("--sessions", query, "--lfp", "yes", "--dataset-version", one)
        done = run_vbnfs("export", out, *arguments, "--endpoint-url", seaweed.endpoint_url)
        assert done.returncode == 0, done.stderr
    found = ask(
        f"""
cache, warned = heard(Neuropixels.from_local_cache, cache_dir=cache_dir)
names = cache.list_manifest_file_names()
first = cache.current_manifest()
rows = len(cache.get_ecephys_session_table(filter_abnormalities=False)), len(cache.get_unit_table())
read = read_everything(cache.get_ecephys_session({session}))
_, warned_again = heard(cache.load_manifest, names[0])
answer([names, first, rows, read["get_lfp"], warned, len(cache.get_unit_table()) > 0])
""",
        out,
        **NOWHERE,
    )
    names, first, rows, lfp, warned, are_units = found
    assert [name.rpartition("_v")[2] for name in names] == [f"{older}.json", f"{version}.json"]
    assert first == names[-1]
    assert min(rows) > 0
    assert lfp == "DataArray"
    assert warned == []
    assert are_units
