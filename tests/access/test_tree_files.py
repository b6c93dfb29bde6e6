"""What paths name, found in a tree that has no more files than they need."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.dataset.build import BUCKET, manifest_json, parse
from vbnfs.access import tree_files
from vbnfs.access.tree_files import asked_files
from vbnfs.access.versions import Versions
from vbnfs.dataset.contents import contents_of
from vbnfs.dataset.tree import DataNode
from vbnfs.dataset.tree_builder import build_tree

SESSION = "ecephys_session_1.nwb"
OLD = {
    f"ecephys_sessions/{SESSION}": "one",
    "ecephys_sessions/notes.txt": "notes",
    "project_metadata/units.csv": "old",
}
NEW = {
    f"behavior_ecephys_sessions/1/{SESSION}": "one",
    "behavior_ecephys_sessions/1/probe_probeA_lfp.nwb": "lfp",
    "behavior_ecephys_sessions/2/ecephys_session_2.nwb": "two",
    "ecephys_sessions/notes.txt": "notes",
    "project_metadata/units.csv": "new",
}
PATHS = (
    f"manifests/v2.0.0/behavior_ecephys_sessions/1/{SESSION}",
    "manifests/v2.0.0/behavior_ecephys_sessions/1",
    "manifests/v2.0.0/behavior_ecephys_sessions",
    "manifests/v2.0.0/ecephys_sessions",  # with links to sessions in other folders
    f"manifests/v2.0.0/ecephys_sessions/{SESSION}",
    "manifests/v2.0.0/project_metadata",
    "manifests/v1.0.0/ecephys_sessions",
    f"manifests/v1.0.0/ecephys_sessions/{SESSION}",
)


@pytest.fixture
def versions() -> Versions:
    """Two versions: one whose sessions are in one folder, and one that has links to them there."""
    manifests = [parse(manifest_json(files), version=name) for name, files in (("1.0.0", OLD), ("2.0.0", NEW))]
    release = SimpleNamespace(manifests=manifests, choose=lambda wanted: manifests[-1].dataset_version)
    named = contents_of(manifests, bucket=BUCKET, attributes=lambda version: None)
    dataset = SimpleNamespace(config=SimpleNamespace(dataset_version=None))
    return cast("Versions", SimpleNamespace(dataset=dataset, release=release, named=named))


def found(versions: Versions, *paths: str) -> list[list[tuple[str, str]]]:
    """For each path the names of what it is of, with their contents."""
    asked = asked_files(versions, paths)
    nodes = [[(name, node) for name, node in asked[path] if isinstance(node, DataNode)] for path in paths]
    return [[(name, node.content.content_id) for name, node in of_path] for of_path in nodes]


@pytest.mark.parametrize("path", PATHS)
def test_few_files_are_found_as_in_all(path: str, versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path names the same files, by the same names, whichever other files the version has."""
    here = found(versions, path, PATHS[0])
    monkeypatch.setattr(tree_files, "_with_those_alone", lambda manifests, paths: manifests)
    assert here == found(versions, path, PATHS[0])
    assert here[0]


def test_no_tree_is_built_of_what_is_not_asked_for(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and folders that are named are all that the tree has."""
    built: list[int] = []

    def noted(manifests: Any, **options: Any) -> Any:
        built.append(sum(len(one.files) for one in manifests))
        return build_tree(manifests, **options)

    monkeypatch.setattr(tree_files, "build_tree", noted)
    found(versions, PATHS[0])
    found(versions, PATHS[1], PATHS[5])
    assert built == [1, 3]
