"""The tree that is made of manifests: its places, its numbers, its links."""

import functools
import random
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.build import PROJECT, Files, file_name, hash_of, manifest, tree_of, version_id_of
from tests.dataset.real_list import BUCKET as REAL_BUCKET
from tests.dataset.real_list import RELEASES, real_file_name, real_manifest_json
from vbnfs.dataset.manifest import Manifest, Origin, ReleaseNames, parse_manifest
from vbnfs.dataset.markers import MARKERS
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Node, StaticNode, Symlink, Tree
from vbnfs.dataset.tree_builder import flat_names
from vbnfs.objects import ObjectVersion

Releases = Mapping[str, Files]  # by version

NESTED = {
    "project_metadata/units.csv": "units",
    "behavior_ecephys_sessions/11/ecephys_session_11.nwb": "session 11",
    "behavior_ecephys_sessions/11/probe_probeA_lfp.nwb": "lfp",
    "behavior_only_sessions/22/behavior_session_22.nwb": "behavior",
}
FLAT = {"project_metadata/units.csv": "units", "ecephys_sessions/ecephys_session_11.nwb": "session 11"}


def build(releases: Releases, *, default: str | None = None, readme: bytes = b"read me") -> Tree:
    """The tree of `releases`, each a second younger than the one before; the last one at the top."""
    manifests = [manifest(v, files, modified_ns=10**9 * n) for n, (v, files) in enumerate(releases.items(), 1)]
    return tree_of(manifests, default=default or [*releases][-1], readme=readme)


def walk(tree: Tree) -> Iterator[tuple[str, Node]]:
    """Every path and its node, folders included, the root as ''."""
    waiting = [("", tree.nodes[ROOT_INODE])]
    while waiting:
        path, node = waiting.pop()
        yield path, node
        if isinstance(node, Directory):
            waiting += [(f"{path}/{name}".removeprefix("/"), child) for name, child in tree.children(node)]


def at(tree: Tree, path: str) -> Node:
    return dict(walk(tree))[path]


def directory(tree: Tree, path: str) -> Directory:
    node = at(tree, path)
    assert isinstance(node, Directory)
    return node


def data(tree: Tree, path: str) -> DataNode:
    node = at(tree, path)
    assert isinstance(node, DataNode)
    return node


def numbers(tree: Tree) -> dict[str, int]:
    return {path: node.inode for path, node in walk(tree)}


def check_sound(tree: Tree) -> None:
    """What holds for every tree."""
    places = list(walk(tree))
    names = Counter(node.inode for _, node in places)
    folders = [node for _, node in places if isinstance(node, Directory)]
    unlisted = Counter(folder.children[name] for folder in folders for name in folder.unlisted)
    assert set(tree.nodes) == {*names, *unlisted}
    assert not set(names) & set(unlisted)
    assert all(tree.nodes[inode].links == count for inode, count in unlisted.items())
    for path, node in places:
        assert 0 < node.inode < 1 << 53
        if isinstance(node, Directory):
            assert names[node.inode] == 1, path
            subfolders = [child for _, child in tree.children(node) if isinstance(child, Directory)]
            assert node.links == 2 + len(subfolders)
            assert all(child.parent == node.inode for child in subfolders)
            assert list(node.children) == sorted(node.children)
        else:
            assert names[node.inode] == node.links, path


# Places


def test_layout() -> None:
    """README, all of every version with its manifest below `manifests/`, and the default's folders at the top."""
    tree = build({"0.4.0": NESTED, "0.5.0": {"project_metadata/units.csv": "new units"}}, default="0.4.0")
    files = {path for path, node in walk(tree) if not isinstance(node, Directory)}
    flat = "ecephys_sessions/ecephys_session_11.nwb"
    assert files == {
        "README.txt",
        "manifests/latest",
        *NESTED,
        flat,
        *(f"manifests/v0.4.0/{path}" for path in (*NESTED, flat, file_name("0.4.0"))),
        f"manifests/v0.5.0/{file_name('0.5.0')}",
        "manifests/v0.5.0/project_metadata/units.csv",
    }
    check_sound(tree)


def test_static_files_have_their_bytes() -> None:
    """README and manifests are in the tree, byte for byte; a manifest has its own time.

    The README's grows with each version, also with one that was published before the newest.
    """
    manifests = [manifest("0.1.0", FLAT, modified_ns=5), manifest("0.2.0", NESTED, modified_ns=9)]
    tree = tree_of(manifests, default="0.2.0", readme=b"text")
    readme, first = at(tree, "README.txt"), at(tree, f"manifests/v0.1.0/{file_name('0.1.0')}")
    assert isinstance(readme, StaticNode)
    assert isinstance(first, StaticNode)
    assert (readme.data, readme.modified_ns) == (b"text", 10)
    again = at(tree_of([manifest("0.0.1", FLAT, modified_ns=1), *manifests], default="0.2.0"), "README.txt")
    assert isinstance(again, StaticNode)
    assert (again.inode, again.modified_ns) == (readme.inode, 11)
    assert (first.data, first.modified_ns) == (manifests[0].data, 5)


def test_latest_leads_to_the_default() -> None:
    """`manifests/latest` is a relative link to the folder of the version at the top, be it the newest or not."""
    link = at(build({"0.4.0": NESTED, "0.5.0": NESTED}, default="0.4.0"), "manifests/latest")
    assert isinstance(link, Symlink)
    assert link.target == "v0.4.0"


def test_a_version_called_latest_has_its_own_folder() -> None:
    """No version's name can take the place of the link, since its folder begins with `v`."""
    tree = build({"latest": FLAT, "atest": FLAT}, default="latest")
    assert isinstance(at(tree, "manifests/latest"), Symlink)
    assert isinstance(at(tree, "manifests/vlatest"), Directory)
    check_sound(tree)


def test_times_of_folders() -> None:
    """A version's folders have its manifest's time, wherever they stand; the root and `manifests` the newest.

    These two tell of each version by a nanosecond, so that one that appears changes their time in any case.
    """
    tree = build({"0.4.0": NESTED, "0.5.0": FLAT}, default="0.4.0")
    times = {path: node.modified_ns for path, node in walk(tree) if isinstance(node, Directory)}
    newest, older = 2 * 10**9, 10**9
    assert times[""] == times["manifests"] == newest + 1
    assert times["manifests/v0.5.0"] == newest
    assert times["manifests/v0.5.0/ecephys_sessions"] == newest
    assert times["manifests/v0.4.0"] == times["manifests/v0.4.0/behavior_ecephys_sessions/11"] == older
    assert times["project_metadata"] == times["behavior_ecephys_sessions/11"] == older


def test_only_the_root_and_manifests_grow() -> None:
    """Names can turn up at the top and beside the versions, and nowhere else."""
    tree = build({"0.4.0": NESTED})
    growing = {path for path, node in walk(tree) if isinstance(node, Directory) and node.is_growing}
    assert growing == {"", "manifests"}


# The flat folder


def test_flat_names_in_a_nested_release() -> None:
    """Each session is one file under its own and its flat name, at the top and below `manifests/`: four links."""
    tree = build({"0.5.0": NESTED})
    flat = data(tree, "ecephys_sessions/ecephys_session_11.nwb")
    assert flat is at(tree, "behavior_ecephys_sessions/11/ecephys_session_11.nwb")
    assert flat is at(tree, "manifests/v0.5.0/ecephys_sessions/ecephys_session_11.nwb")
    assert flat.links == 4
    assert list(directory(tree, "ecephys_sessions").children) == ["ecephys_session_11.nwb"]


def test_a_flat_release_is_left_as_it_is() -> None:
    """Where sessions stand in the flat folder already, nothing is added or counted twice."""
    tree = build({"0.1.0": FLAT})
    assert not list(flat_names(manifest("0.1.0", FLAT).files))
    assert data(tree, "ecephys_sessions/ecephys_session_11.nwb").links == 2


@pytest.mark.parametrize(
    "files",
    [
        {"a/ecephys_session_1.nwb": "1", "b/ecephys_session_1.nwb": "2"},
        {"a/ecephys_session_1.nwb": "1", "b/ecephys_session_1.nwb": "1"},
        {"a/ecephys_session_1.nwb": "1", "b/ecephys_session_1.nwb": "2", "c/ecephys_session_1.nwb": "3"},
        {"a/ecephys_session_1.nwb": "1", "ecephys_sessions/ecephys_session_1.nwb": "2"},
        {"a/ecephys_session_1.nwb": "1", "ecephys_sessions/ecephys_session_1.nwb/part": "2"},
        {"a/ecephys_session_1.nwb": "1", "ecephys_sessions": "2"},
        {"a/ecephys_session_x.nwb": "1", "a/behavior_session_1.nwb": "2", "a/ecephys_session_1.nwb.md5": "3"},
    ],
)
def test_flat_names_that_are_not_clear_are_left_out(files: Files) -> None:
    """A session whose name belongs to several files, or whose flat place is taken, has no flat name."""
    tree = build({"1.0.0": files})
    assert {path for path, node in walk(tree) if isinstance(node, DataNode) and not path.startswith("manifests")} == {
        *files
    }
    check_sound(tree)


def test_flat_names_beside_others_in_the_folder() -> None:
    """Other files and folders in the flat folder stay, and the sessions are added to them."""
    files = {
        "a/ecephys_session_1.nwb": "1",
        "ecephys_sessions/ecephys_session_2.nwb": "2",
        "ecephys_sessions/x/y": "3",
    }
    tree = build({"1.0.0": files})
    names = ["ecephys_session_1.nwb", "ecephys_session_2.nwb", "x"]
    assert list(directory(tree, "ecephys_sessions").children) == names
    check_sound(tree)


# Names that are reserved


def test_reserved_names_are_left_out_at_the_top_only() -> None:
    """A release's `manifests`, `allensdk`, `README.txt` stand in its own folder; at the top they are the mount's."""
    files = {"manifests/v9.9.9/x": "1", "manifests/latest": "2", "README.txt": "3", "a": "4", "allensdk/x": "5"}
    tree = build({"1.0.0": files})
    assert [name for name, _ in tree.children(directory(tree, ""))] == ["README.txt", "a", "manifests"]
    assert list(directory(tree, "manifests").children) == ["latest", "v1.0.0"]
    assert isinstance(at(tree, "README.txt"), StaticNode)
    assert {f"manifests/v1.0.0/{path}" for path in files} <= {path for path, _ in walk(tree)}
    assert data(tree, "manifests/v1.0.0/README.txt").links == 1
    check_sound(tree)


def test_markers_are_found_and_not_listed() -> None:
    """What keeps programs from reading all is found by name at the top, and by no walk. A release's own is below."""
    tree = build({"1.0.0": {"CACHEDIR.TAG": "theirs", ".rgignore": "theirs", "a": "1"}})
    top = directory(tree, "")
    assert top.unlisted == set(MARKERS)
    for name, bytes_of in MARKERS.items():
        node = tree.nodes[top.children[name]]
        assert isinstance(node, StaticNode)
        assert node.data == bytes_of
    assert {path for path, _ in walk(tree) if path.rpartition("/")[2] in MARKERS} == {
        "manifests/v1.0.0/CACHEDIR.TAG",
        "manifests/v1.0.0/.rgignore",
    }
    check_sound(tree)


def test_readme_as_a_folder_of_a_release() -> None:
    """A release may even have a folder of that name, or a file called `manifests`."""
    tree = build({"1.0.0": {"README.txt/x": "1", "manifests": "2"}})
    assert isinstance(at(tree, "README.txt"), StaticNode)
    assert isinstance(at(tree, "manifests"), Directory)
    check_sound(tree)


def test_a_file_named_like_another_versions_manifest() -> None:
    """A file may have the name of another version's manifest, in its own version's folder and at the top."""
    tree = build({"1.0.0": {file_name("2.0.0"): "1"}, "2.0.0": {file_name("1.0.0"): "2"}})
    assert isinstance(at(tree, f"manifests/v1.0.0/{file_name('2.0.0')}"), DataNode)
    assert isinstance(at(tree, f"manifests/v2.0.0/{file_name('2.0.0')}"), StaticNode)
    assert isinstance(at(tree, file_name("1.0.0")), DataNode)
    check_sound(tree)


def test_names_that_differ_in_case_only_are_two() -> None:
    """The tree is case-sensitive, as S3 is."""
    tree = build({"1.0.0": {"A/x": "1", "a/x": "2"}})
    assert data(tree, "A/x").inode != data(tree, "a/x").inode


def test_a_clash_that_slipped_through_is_a_defect() -> None:
    """A file in a folder's place, which parsing refuses, does not make a tree that lacks it."""
    first, second = manifest("1.0.0", {"a": "1"}), manifest("1.0.0", {"a/b": "2"})
    both = Manifest(first.file_name, first.dataset_version, b"", 0, first.files + second.files)
    with pytest.raises(TypeError, match="'a' is a file"):
        tree_of([both], default="1.0.0")


# Hard links


def test_equal_hashes_are_one_inode() -> None:
    """Equal bytes are one inode, across versions, names and version ids, with a list of the versions that have it."""
    tree = build({"0.1.0": {"a": "same", "b": "same", "c": "other"}, "0.2.0": {"d/e": "same"}})
    shared = data(tree, "d/e")
    assert {path for path, node in walk(tree) if node is shared} == {
        "manifests/v0.1.0/a",
        "manifests/v0.1.0/b",
        "manifests/v0.2.0/d/e",
        "d/e",
    }
    assert shared.links == 4
    assert shared.dataset_versions == ("0.1.0", "0.2.0")
    assert shared.content.file_hash == hash_of("same")
    assert data(tree, "manifests/v0.1.0/c").dataset_versions == ("0.1.0",)


def test_equal_names_with_other_hashes_are_two_inodes() -> None:
    """A file that changed between two versions is another inode in each."""
    tree = build({"0.1.0": {"a": "1"}, "0.2.0": {"a": "2"}})
    old, new = data(tree, "manifests/v0.1.0/a"), data(tree, "manifests/v0.2.0/a")
    assert old.inode != new.inode
    assert old.content.content_id != new.content.content_id
    assert at(tree, "a") is new


def test_the_source_is_the_oldest_versions_object() -> None:
    """Of several objects with the same bytes, the first of the oldest version is the one that is fetched."""
    first, second = manifest("0.1.0", {"old/x": "same", "old/y": "same"}), manifest("0.2.0", {"new/x": "same"})
    for manifests in ([first, second], [second, first]):
        assert data(tree_of(manifests, default="0.2.0"), "new/x").source == ObjectVersion(
            f"{PROJECT}/old/x", version_id_of("same")
        )


def test_equal_manifests_are_one_inode_with_two_links() -> None:
    """Manifests with equal bytes and times share an inode, and count their names; vbnfs's own files do not."""
    twins = [manifest(version, {"a": "1"}, modified_ns=1) for version in ("1.0.0", "2.0.0")]
    tree = tree_of(twins, default="2.0.0", readme=twins[0].data)
    assert at(tree, f"manifests/v1.0.0/{file_name('1.0.0')}").links == 2
    assert at(tree, "README.txt").links == 1
    check_sound(tree)


# Numbers


def test_the_root_is_1() -> None:
    """The root's number is FUSE's, it is its own parent, and nothing else has it."""
    tree = build({"0.5.0": NESTED})
    root = directory(tree, "")
    assert root.inode == root.parent == ROOT_INODE == 1
    assert [path for path, inode in numbers(tree).items() if inode == 1] == [""]


def test_numbers_do_not_depend_on_the_order_of_manifests() -> None:
    """The same manifests in any order give the same tree."""
    manifests = [manifest(f"0.{n}.0", NESTED | {"a": str(n)}, modified_ns=n) for n in range(12)]
    tree = tree_of(manifests, default="0.10.0")
    for seed in range(5):
        shuffled = random.Random(seed).sample(manifests, len(manifests))
        assert tree_of(shuffled, default="0.10.0") == tree


def test_numbers_are_the_same_on_every_host() -> None:
    """Numbers are a matter of names and contents only: they are pinned here."""
    tree = build({"0.5.0": {"a/b": "content"}})
    assert {path: numbers(tree)[path] for path in ("a", "a/b", "manifests")} == PINNED


PINNED = {"a": 4324914499229373, "a/b": 1705457959513708, "manifests": 8119402088515088}


def test_numbers_are_exact_as_doubles() -> None:
    """No number of a tree loses digits in a program that has numbers as doubles, as R, JavaScript and MATLAB do."""
    made = numbers(build({"0.4.0": NESTED, "0.5.0": FLAT}))
    assert {int(float(number)) for number in made.values()} == set(made.values())
    assert max(made.values()) > 1 << 48  # and they are not crowded together either


def test_numbers_that_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two identities have one number, the later one takes another: the tree is sound, and each file its own."""
    files = {f"folder/{n}": f"content {n}" for n in range(15)}
    monkeypatch.setattr("vbnfs.dataset.tree_builder._INODE_BITS", 5)
    tree = build({"0.5.0": files})
    check_sound(tree)
    assert len(tree.nodes) > 1 << 4  # of numbers below 32, so that some have met
    for path, text in files.items():
        assert data(tree, path).content.file_hash == hash_of(text)


def test_a_newer_version_changes_nothing_that_was_there() -> None:
    """When a version appears, folders and files keep number, content and source; only links and versions grow."""
    before = build({"0.4.0": NESTED}, default="0.4.0")
    after = build({"0.4.0": NESTED, "0.5.0": NESTED | {"more": "1"}}, default="0.4.0")
    for path, node in walk(before):
        now = at(after, path)
        assert now.inode == node.inode, path
        if isinstance(node, DataNode):
            assert isinstance(now, DataNode)
            assert now.content == node.content
            assert now.links > node.links
            assert now.dataset_versions == ("0.4.0", "0.5.0")


def test_folders_and_files_of_the_same_name_have_different_numbers() -> None:
    """What is a file in one version and a folder in another is two inodes."""
    tree = build({"1.0.0": {"a": "1"}, "2.0.0": {"a/b": "1"}})
    assert tree.nodes.keys() > {node.inode for _, node in walk(tree)}
    assert at(tree, "manifests/v1.0.0/a").inode != at(tree, "manifests/v2.0.0/a").inode
    check_sound(tree)


@functools.cache
def real_manifests() -> list[Manifest]:
    origin = Origin(REAL_BUCKET)
    return [
        parse_manifest(real_manifest_json(v), file_name=real_file_name(v), modified_ns=n, origin=origin)
        for n, v in enumerate(RELEASES)
    ]


@pytest.mark.parametrize("default", [RELEASES[0], RELEASES[-1]])
def test_five_releases_of_the_real_size(default: str) -> None:
    """Five versions of 4,298 files: every file in its place, each content one inode, 153 flat names in each."""
    manifests = real_manifests()
    tree = tree_of(manifests, bucket=REAL_BUCKET, default=default)
    contents = {file.content_id(REAL_BUCKET) for m in manifests for file in m.files}
    assert 4298 < len(contents) < 5 * 4298
    by_kind = Counter(type(node) for node in tree.nodes.values())
    folders = 153 + 3271 + 4  # a folder for each session, and their four parents, the flat one among them
    for_allensdk = {StaticNode: 1, Symlink: 1 + 5 * (1 + 4), Directory: 2 + 3 * 5}  # whatever the number of files
    plain = {DataNode: len(contents), StaticNode: 6 + 5 + 1, Symlink: 1, Directory: 6 * folders + 5 + 3}
    assert by_kind == Counter(plain) + Counter(for_allensdk)
    assert sum(node.links for node in tree.nodes.values() if isinstance(node, DataNode)) == 6 * (4298 + 153)
    check_sound(tree)


# Rules for all inputs

FURTHER = ["ecephys_session_2.nwb", file_name("1.0.0"), file_name("2.0.0")]
parts = st.sampled_from(
    ["a", "b", "manifests", "latest", "README.txt", "v1.0.0", "ecephys_sessions", "ecephys_session_1.nwb", *FURTHER]
)
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
contents = st.sampled_from(["1", "2", "3"])


def without_clashes(files: dict[str, str], version: str) -> dict[str, str]:
    kept: dict[str, str] = {}
    for path, content in files.items():
        if path.split("/")[0] != file_name(version) and not any(
            path.startswith(other + "/") or other.startswith(path + "/") for other in kept
        ):
            kept[path] = content
    return kept


named = st.builds(ReleaseNames, st.sampled_from(["project", "a", "manifests", "/"]), st.sampled_from(["1.0.0", "A"]))
releases = st.dictionaries(
    st.sampled_from(["1.0.0", "2.0.0", "2.0.0-rc.1", "A", "latest"]),
    st.dictionaries(paths, contents, max_size=8),
    min_size=1,
).map(lambda tables: {version: without_clashes(files, version) for version, files in tables.items()})


@given(releases, st.data())
def test_any_manifests_make_a_sound_tree(tables: Releases, draw: st.DataObject) -> None:
    """Whatever manifests there are: each node is reached by as many names as it has links, each file is there."""
    default = draw.draw(st.sampled_from(sorted(tables)))
    manifests = [manifest(version, files, names=draw.draw(named)) for version, files in tables.items()]
    tree = tree_of(manifests, default=default)
    check_sound(tree)
    found = dict(walk(tree))
    assert all(found[tree.path_of(node.inode)] is node for node in found.values() if node.inode != ROOT_INODE)
    for version, files in tables.items():
        for path, content in files.items():
            node = found[f"manifests/v{version}/{path}"]
            assert isinstance(node, DataNode)
            assert node.content.file_hash == hash_of(content)
            assert version in node.dataset_versions
            if version == default and path.split("/")[0] not in {"manifests", "README.txt"}:
                assert found[path] is node


@given(releases, st.randoms(use_true_random=False))
def test_any_order_makes_the_same_tree(tables: Releases, chance: random.Random) -> None:
    """The order in which manifests are given plays no part."""
    manifests = [manifest(version, files, modified_ns=1) for version, files in tables.items()]
    shuffled = chance.sample(manifests, len(manifests))
    default = min(tables)
    assert tree_of(manifests, default=default) == tree_of(shuffled, default=default)


def test_the_tables_of_a_version_are_known() -> None:
    """By inode, each beside the others of the newest version that has both; files of other kinds are none."""
    old = {f"project_metadata/{name}.csv": name for name in ("units", "probes", "channels")} | NESTED
    tree = build({"0.1.0": old, "0.2.0": old | {"project_metadata/units.csv": "new units"}})

    def inode(path: str) -> int:
        return data(tree, path).inode

    units, new_units = inode("manifests/v0.1.0/project_metadata/units.csv"), inode("project_metadata/units.csv")
    probes, channels = inode("project_metadata/probes.csv"), inode("project_metadata/channels.csv")
    assert tree.tables_beside(probes, channels) == {new_units}
    assert tree.tables_beside(units, channels) == {probes}
    assert tree.tables_beside(units, new_units) == frozenset()
    assert all(map(tree.is_table, (units, new_units, probes, channels)))
    assert not tree.is_table(inode("behavior_only_sessions/22/behavior_session_22.nwb"))
    assert not tree.is_table(ROOT_INODE)
