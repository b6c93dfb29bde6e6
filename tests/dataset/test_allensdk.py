"""The cache directories of AllenSDK in the tree: their names, and what stands in them."""

import posixpath

import pytest

from tests.dataset.build import Files, file_name, manifest
from tests.dataset.test_tree import at, check_sound, data, directory, tree_of, walk
from vbnfs.dataset.manifest import Manifest, ReleaseNames
from vbnfs.dataset.readme import readme
from vbnfs.dataset.tree import Directory, StaticNode, Symlink, Tree

FILES = {"project_metadata/units.csv": "units", "sessions/1/ecephys_session_1.nwb": "session", "notes.txt": "notes"}


def named(version: str, files: Files = FILES, *, name: str = "project", manifest_version: str = "") -> Manifest:
    """A manifest that AllenSDK can load."""
    return manifest(version, files, names=ReleaseNames(name, manifest_version or version))


def tree(*manifests: Manifest) -> Tree:
    """The tree of `manifests`, the last one at the top; it is sound."""
    made = tree_of(list(manifests), default=str(manifests[-1].dataset_version))
    check_sound(made)
    return made


def names(tree: Tree, path: str) -> set[str]:
    """What is listed in a folder."""
    return {name for name, _ in tree.children(directory(tree, path))}


def resolved(tree: Tree, path: str) -> str:
    """Where a path leads, links followed."""
    place = ""
    for part in path.split("/"):
        node = at(tree, place := f"{place}/{part}".removeprefix("/"))
        if isinstance(node, Symlink):
            assert node.target is not None
            place = resolved(tree, posixpath.normpath(posixpath.join(posixpath.dirname(place), node.target)))
    return place


def test_all_versions_stand_in_one_cache() -> None:
    """A manifest and a folder for each version, and the empty list of downloads; nothing else is listed."""
    made = tree(named("0.4.0"), named("0.5.0"))
    assert names(made, "allensdk") == {
        "_downloaded_data.json",
        file_name("0.4.0"),
        file_name("0.5.0"),
        "project-0.4.0",
        "project-0.5.0",
        "static",
    }
    downloaded = at(made, "allensdk/_downloaded_data.json")
    assert isinstance(downloaded, StaticNode)
    assert downloaded.data == b"{}"
    assert at(made, f"allensdk/{file_name('0.4.0')}") is at(made, f"manifests/v0.4.0/{file_name('0.4.0')}")


def test_every_path_that_allensdk_makes_leads_to_the_file() -> None:
    """`<project_name>-<manifest_version>/<path>`, and `<project_name>/<path>` in the static one, are that file."""
    made = tree(named("0.4.0", name="other", manifest_version="4"), named("0.5.0"))
    for folder in ("allensdk/other-4", "allensdk/static/v0.4.0/other"):
        for path in FILES:
            assert resolved(made, f"{folder}/{path}") in {f"manifests/v0.4.0/{path}", f"{folder}/{path}"}
            assert at(made, resolved(made, f"{folder}/{path}")) is data(made, f"manifests/v0.4.0/{path}")


def test_a_static_cache_has_one_manifest() -> None:
    """AllenSDK takes the newest that it finds there: each version's cache has its own, and nothing else like it."""
    made = tree(
        named("0.4.0", FILES | {f"manifests/{file_name('9.9.9')}": "x", "manifests/notes/1": "n"}), named("1.0.0")
    )
    place = "allensdk/static/v0.4.0/project"
    assert names(made, place) == {"ecephys_sessions", "manifests", "notes.txt", "project_metadata", "sessions"}
    assert names(made, f"{place}/manifests") == {"notes", file_name("0.4.0")}
    assert resolved(made, f"{place}/manifests/notes/1") == "manifests/v0.4.0/manifests/notes/1"
    assert at(made, f"{place}/manifests/{file_name('0.4.0')}") is at(made, f"allensdk/{file_name('0.4.0')}")


def test_a_static_cache_of_another_name_than_the_bucket_has() -> None:
    """AllenSDK opens the manifest below the keys' first part, and for files below the manifest's name."""
    made = tree(named("0.4.0", name="other"))
    path = f"allensdk/static/v0.4.0/project/manifests/{file_name('0.4.0')}"
    assert resolved(made, path) == path.replace("/project/", "/other/")


def test_the_last_used_is_answered_and_not_listed() -> None:
    """`_manifest_last_used.txt` can be looked up, leads each user elsewhere, and no walk meets it."""
    made = tree(named("0.4.0"))
    folder = directory(made, "allensdk")
    link = made.nodes[folder.children["_manifest_last_used.txt"]]
    assert isinstance(link, Symlink)
    assert link.target is None
    assert not [path for path, _ in walk(made) if "last_used" in path]


def test_the_ophys_project_has_a_folder_for_its_movie() -> None:
    """AllenSDK makes `resources` in that project's caches, which a read-only mount refuses unless it is there."""
    made = tree(named("1.0.0", name="visual-behavior-ophys"), named("1.1.0", name="visual-behavior-ophys"))
    for cache in ("allensdk", "allensdk/static/v1.0.0", "allensdk/static/v1.1.0"):
        assert names(made, f"{cache}/resources") == {"_downloaded_data.json"}
    assert "resources" not in names(tree(named("1.0.0")), "allensdk")


def test_names_turn_up_where_versions_do() -> None:
    """Besides the top and `manifests`, names can turn up in `allensdk` and `allensdk/static`, and nowhere else."""
    made = tree(named("0.4.0"))
    growing = {path for path, node in walk(made) if isinstance(node, Directory) and node.is_growing}
    assert growing == {"", "allensdk", "allensdk/static", "manifests"}


@pytest.mark.parametrize(
    "other",
    [
        named("A"),  # no semantic version: AllenSDK would not start at all
        named("1.0"),
        named("1.0.0_v", manifest_version="1.0.0"),
        named("2.0.0", manifest_version="0.4.0"),  # the folder is another one's
        named("2.0.0", name=""),
        named("2.0.0", name="a/b"),
        named("2.0.0", name="..", manifest_version="1"),
        named("2.0.0", name="static", manifest_version="x/"),
        named("2.0.0", name="x_manifest_v", manifest_version="1.json"),  # a folder with a name like a manifest's
        manifest("2.0.0", FILES),  # what AllenSDK asks of a manifest is not there
    ],
    ids=lambda other: f"{other.file_name}, {other.names}",
)
def test_what_allensdk_cannot_load_is_not_there(other: Manifest) -> None:
    """A version that would keep AllenSDK from starting, or whose folder is another's, is shown elsewhere only."""
    made = tree(named("0.4.0"), other)
    assert f"v{other.dataset_version}" in names(made, "manifests")
    assert names(made, "allensdk") == names(tree(named("0.4.0")), "allensdk")
    assert names(made, "allensdk/static") == {"v0.4.0"}


def test_a_release_that_allensdk_cannot_load_has_no_cache() -> None:
    """Without a version to load there is no `allensdk`, and README.txt does not speak of it."""
    unnamed = manifest("1.0.0", FILES)
    assert "allensdk" not in names(tree(unnamed), "")
    for one, is_named in ((unnamed, False), (named("1.0.0"), True)):
        text = readme([one], default=one.dataset_version, bucket="b", project="p").decode()
        assert ("  allensdk/ " in text) == is_named
