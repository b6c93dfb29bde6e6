"""AllenSDK, unmodified, on a mount of the sister dataset: another bucket, another project, other tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures_mount import Mount, Mounts
from tests.scenarios.allensdk.ophys_release import (
    BUCKET,
    CELLS,
    EXPERIMENTS,
    FRAMES,
    PROJECT,
    TRAININGS,
    make_ophys_release,
)
from tests.scenarios.allensdk.sdk import ask, forget_last_used
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import upload

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mount(seaweed: SeaweedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """The release of the other dataset, mounted once for this module's tests."""
    directory = tmp_path_factory.mktemp("ophys")
    seaweed.make_bucket(BUCKET)
    upload(make_ophys_release(directory), seaweed.client(), bucket=BUCKET, project=PROJECT)
    factory = Mounts(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBNFS_CACHE_DIR", str(directory / "cache"))
        patch.setenv("VBNFS_LOG_FILE", str(directory / "vbnfs.log"))
        yield factory(seaweed.endpoint_url, "--dataset", PROJECT)
    factory.end()


@pytest.fixture
def cache_dir(mount: Mount) -> Path:
    """The cache_dir, as one finds it who has never used AllenSDK on this mount."""
    return forget_last_used(mount)


def manifest_name(version: str) -> str:
    """The name by which AllenSDK loads a version."""
    return f"{PROJECT}_project_manifest_v{version}.json"


def test_tables_of_both_versions(cache_dir: Path) -> None:
    """from_local_cache has the four tables of the newest version, goes back and forth, and tells what changed."""
    script = f"""
def look(cache):
    tables = [cache.get_behavior_session_table(), cache.get_ophys_session_table(), cache.get_ophys_experiment_table()]
    cells = cache.get_ophys_cells_table()
    return [cache.current_manifest(), *map(len, tables), len(cells), int(cells["cell_specimen_id"].notna().sum())]

cache, warned = heard(Ophys.from_local_cache, cache_dir=cache_dir)
newest = look(cache)
_, warned_then = heard(cache.load_manifest, {manifest_name("1.0.0")!r})
static, _ = heard(Ophys.from_local_cache, cache_dir=cache_dir + "/static/v1.0.0", use_static_cache=True)
changes = cache.compare_manifests({manifest_name("1.0.0")!r}, {manifest_name("1.1.0")!r})
answer([newest, warned, look(cache), warned_then, look(static), changes])
"""
    newest, warned, old, warned_then, static, changes = ask(script, cache_dir)
    sessions, cells = [len(EXPERIMENTS) + len(TRAININGS), len(EXPERIMENTS)], len(EXPERIMENTS) * CELLS
    assert newest == [manifest_name("1.1.0"), *sessions, len(EXPERIMENTS), cells, cells]
    assert old == static == [manifest_name("1.0.0"), *sessions, len(EXPERIMENTS), cells, 0]
    assert (warned, warned_then) == ([], ["OutdatedManifestWarning"])
    assert changes.endswith("\n\nproject_metadata/ophys_cells_table.csv changed\n")


def test_an_experiment_and_a_training(cache_dir: Path) -> None:
    """Genuine files are read with all their attributes: an imaging experiment, and a session without imaging."""
    script = f"""
cache, _ = heard(Ophys.from_local_cache, cache_dir=cache_dir)
experiment = cache.get_behavior_ophys_experiment({EXPERIMENTS[0]})
training = cache.get_behavior_session({TRAININGS[0]})
answer([
    len(read_everything(experiment)), len(read_everything(training)),
    [len(experiment.dff_traces), len(experiment.dff_traces.dff.iloc[0]), len(experiment.events)],
    training.metadata["session_type"],
])
"""
    experiment, training, lengths, session_type = ask(script, cache_dir)
    assert experiment > training >= 15
    assert lengths == [CELLS, FRAMES, CELLS]
    assert session_type == "TRAINING_4_images_A_training"
