"""vbnfs beside AllenSDK in one environment: installed as a wheel, it changes none of its packages, and works."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import run_vbnfs
from tests.scenarios.allensdk.sdk import python as sdk_python

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[3]
UNITS: Final = {
    "0.1.0": b"unit_id,snr,name,is_good,empty\n1,0.10,a,True,\n2,1.5,b,False,\n3,nan,,True,\n",
    "0.2.0": b"unit_id,snr,name,is_good,empty,more\n1,0.1,a,True,,x\n2,n/a,c,True,,y\n4,2,,,,z\n",
}
CHANNELS: Final = {"0.1.0": b"site,depth\na,1\nb,2\nb,2\n", "0.2.0": b"site,depth\na,1\nb,2\nc,\n"}


def run(*command: str | Path) -> str:
    """What a program writes; it must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vbnfs as it is published."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    [wheel] = folder.glob("vbnfs-*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment on top of AllenSDK's, of which all packages can be imported, with the wheel installed."""
    below_python, environment = sdk_python(), tmp_path_factory.mktemp("environment")
    run(below_python, "-m", "venv", environment)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, below = (run(one, "-c", where).strip() for one in (environment / "bin" / "python", below_python))
    (Path(own) / "allensdk.pth").write_text(f"{below}\n")
    run(environment / "bin" / "pip", "install", "--quiet", wheel)
    return environment


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with two versions, of which two tables differ."""
    dataset = FakeDataset()
    for version, units in UNITS.items():
        tables = {"units": units, "channels": CHANNELS[version]}
        dataset.publish(version, {f"project_metadata/{name}.csv": table for name, table in tables.items()})
    with FakeS3Server(dataset.store) as server:
        yield server


def packages_of(python: Path) -> dict[str, str]:
    """The packages that an environment has, with their versions."""
    found: list[dict[str, str]] = json.loads(run(python, "-m", "pip", "list", "--format", "json"))
    return {package["name"].lower().replace("_", "-"): package["version"] for package in found}


def test_all_can_be_installed_in_one(environment: Path) -> None:
    """The packages that AllenSDK came with are found as they were, numpy and pandas of its time, and none lacks."""
    python = environment / "bin" / "python"
    alone, together = packages_of(sdk_python()), packages_of(python)
    tools = {"pip", "setuptools", "wheel"}
    assert {name: together.get(name) for name in alone.keys() - tools} == {
        name: version for name, version in alone.items() if name not in tools
    }
    assert together["pandas"] == "1.5.3"
    assert together["numpy"] < "1.24"
    assert "vbnfs" in together
    run(python, "-m", "pip", "check")
    run(python, "-c", "import allensdk.brain_observatory.behavior.behavior_project_cache, vbnfs.access.door")


def test_commands_beside_allensdk(environment: Path, server: FakeS3Server) -> None:
    """`versions` and `diff`, with tables, find out there with pandas 1.5.3 what they do with a newer one."""
    program, endpoint = environment / "bin" / "vbnfs", ("--endpoint-url", server.endpoint_url)
    assert [row["version"] for row in json.loads(run(program, "versions", "--json", *endpoint))] == [*UNITS]
    found: dict[str, Any] = json.loads(run(program, "diff", "--json", *endpoint))
    assert {table["path"]: table["changes"]["key"] for table in found["tables"]} == {
        "project_metadata/units.csv": "unit_id",
        "project_metadata/channels.csv": None,
    }
    newer = run_vbnfs("diff", "--json", *endpoint)
    assert newer.returncode == 0
    assert found["tables"] == json.loads(newer.stdout)["tables"]


def test_tables_with_pandas_of_allensdk(environment: Path) -> None:
    """All that tests/tables pins holds with pandas 1.5.3, too."""
    python = environment / "bin" / "python"
    run(environment / "bin" / "pip", "install", "--quiet", "pytest", "hypothesis")
    options = ("-c", "/dev/null", "--rootdir", ROOT, "--noconftest", "-q", "-p", "no:cacheprovider")
    options = (*options, "--hypothesis-profile", "ci")  # hypothesis's own: no example has a deadline
    assert " passed" in run(python, "-m", "pytest", *options, ROOT / "tests" / "tables")
