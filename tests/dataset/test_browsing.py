"""The folders below `by`: which there are, where their links lead, and what their names are."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.build import manifest, tree_of
from vbnfs.dataset.browsing import BY, folders_of, table_of
from vbnfs.dataset.names import check_name
from vbnfs.dataset.tree import ROOT_INODE, Directory, Symlink, Tree

HEADER = "ecephys_session_id,mouse_id,genotype,sex,structure_acronyms,image_set,experience_level,file_id\n"
ROWS = (
    "7,530862,Sst-IRES-Cre/wt;Ai32/wt,F,\"['VISp', 'CA1', 'CA1']\",G,Familiar,0\n"
    "8,530862,wt/wt,F,\"['VISp']\",H,Novel,1\n9,1,wt/wt,M,,,,-999\n"
)
FILES = {"b/7/ecephys_session_7.nwb": "7", "ecephys_sessions/ecephys_session_8.nwb": "8"}
MANIFEST = manifest("1.0.0", {"project_metadata/ecephys_sessions.csv": "t", **FILES})


def folders(rows: str = ROWS) -> dict[str, dict[str, str]]:
    found = folders_of(MANIFEST, (HEADER + rows).encode())
    return {"/".join(path): dict(links) for path, links in found.items()}


def test_folders_and_links() -> None:
    """Each value of a key has a folder with links to its sessions, and so has each pair.

    A link leads to the session's folder, if it has one of its own, or else to its file. Without a file there is none.
    """
    found = folders()
    assert found["mouse_id/530862"] == {
        "7": "../../../b/7",
        "ecephys_session_8.nwb": "../../../ecephys_sessions/ecephys_session_8.nwb",
    }
    assert found["structure/CA1"] == {"7": "../../../b/7"}
    assert found["experience_level/Novel/structure/VISp"].keys() == {"ecephys_session_8.nwb"}
    assert found["structure/VISp/sex/F"].keys() == found["sex/F"].keys()
    assert not any("structure" in path.split("/")[2:] for path in found if path.startswith("structure/"))
    assert "sex/M" not in found
    assert {len(path.split("/")) for path in found} == {2, 4}
    assert found["genotype/Sst-IRES-Cre_wt;Ai32_wt/sex/F"] == {"7": "../../../../../b/7"}


def test_every_link_leads_to_a_session() -> None:
    """In the tree every link below `by` leads from its folder to what is at the top, and equal ones are one inode."""
    by = folders_of(MANIFEST, (HEADER + ROWS).encode())
    plain, tree = tree_of([MANIFEST], default="1.0.0"), tree_of([MANIFEST], default="1.0.0", browsed=by)
    links = dict(links_in(tree, at(tree, BY), BY))
    assert len(links) == sum(map(len, by.values()))
    for path, target in links.items():
        place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        assert at(tree, place) == at(plain, place)
    new = [tree.nodes[inode] for inode in tree.nodes.keys() - plain.nodes.keys()]
    assert sum(isinstance(node, Symlink) for node in new) == 4


def at(tree: Tree, path: str) -> int:
    inode = ROOT_INODE
    for part in path.split("/"):
        folder = tree.nodes[inode]
        assert isinstance(folder, Directory)
        inode = folder.children[part]
    return inode


def links_in(tree: Tree, inode: int, path: str) -> list[tuple[str, str]]:
    """The links below a folder, with their targets."""
    node = tree.nodes[inode]
    if isinstance(node, Symlink):
        return [(path, str(node.target))]
    children = node.children.items() if isinstance(node, Directory) else ()
    return [link for name, child in children for link in links_in(tree, child, f"{path}/{name}")]


def test_the_kernel_lists_it_again() -> None:
    """The folder has another time when it is filled, and names may appear in it; its inode is the same."""
    before = tree_of([MANIFEST], default="1.0.0")
    after = tree_of([MANIFEST], default="1.0.0", browsed=folders_of(MANIFEST, (HEADER + ROWS).encode()))
    assert at(before, BY) == at(after, BY)
    empty, full = before.nodes[at(before, BY)], after.nodes[at(after, BY)]
    assert isinstance(empty, Directory)
    assert isinstance(full, Directory)
    assert (list(empty.children), empty.is_growing) == (["README.txt"], True)
    assert full.modified_ns != empty.modified_ns
    assert "README.txt" in full.children


def test_a_dataset_without_the_table() -> None:
    """Where the version at the top has no table of sessions there is no such folder."""
    bare = manifest("1.0.0", FILES)
    assert table_of(bare) is None
    root = tree_of([bare], default="1.0.0").nodes[ROOT_INODE]
    assert isinstance(root, Directory)
    assert BY not in root.children


def test_names_that_are_alike() -> None:
    """Values whose names would be the same, if only in other letters' case, have folders of their own."""
    found = folders("7,1,a/b,F,,,,0\n8,2,a_b,F,,,,1\n")
    genotypes = sorted(path.split("/")[1] for path in found if path.startswith("genotype/") and path.count("/") == 1)
    assert len(genotypes) == 2
    assert genotypes[0] == "a_b"
    assert genotypes[1].startswith("a_b~")
    for second, third in (("a/b", genotypes[1]), (genotypes[1], "a/b")):
        files = {f"b/{number}/s.nwb": str(number) for number in range(3)}
        rows = "".join(f"{number},1,{one},F,,,,{number}\n" for number, one in enumerate(("a_b", second, third)))
        by = folders_of(manifest("1.0.0", {"project_metadata/ecephys_sessions.csv": "t", **files}), _table(rows))
        assert sorted(len(links) for path, links in by.items() if path[0] == "genotype" and len(path) == 2) == [
            1,
            1,
            1,
        ]


def _table(rows: str) -> bytes:
    return (HEADER + rows).encode()


def test_sessions_whose_files_have_one_name() -> None:
    """Each has a link; that of the second one has a hash behind its name, and the same one in all folders."""
    files = {"a/s.nwb": "1", "b/s.nwb": "2"}
    two = manifest("1.0.0", {"project_metadata/ecephys_sessions.csv": "t", **files})
    by = folders_of(two, _table("7,1,x,F,,,,0\n8,1,y,F,,,,1\n"))
    assert set(by["sex", "F"].values()) == {"../../../a/s.nwb", "../../../b/s.nwb"}
    [name] = by["genotype", "y"]
    assert name.startswith("s.nwb~")
    assert by["mouse_id", "1"][name] == "../../../b/s.nwb"


@given(st.text(min_size=1, max_size=400))
def test_any_value_becomes_a_name(value: str) -> None:
    """Whatever stands in a cell, the folder's name can stand in a folder and drives no terminal."""
    text = value.replace('"', '""')
    rows = f'7,"{text}",x,F,,,,0\n'
    if value.strip():
        names = {path.split("/")[1] for path in folders(rows) if path.startswith("mouse_id/")}
        assert len(names) == 1
        for name in names:
            check_name(name)


def test_one_cell_does_not_take_long() -> None:
    """A cell of as many values as are taken has a folder for each; one of more makes the table none."""

    def row(count: int) -> str:
        return f'7,1,,F,"{[f"S{number}" for number in range(count)]}",,,0\n'

    found = folders(row(200))
    assert len(found) == 2 + 2 + 200 + 2 * 2 * 200  # of mouse and sex, these nested, the areas, these nested
    with pytest.raises(ValueError, match="4,096 values in one cell"):
        folders(row(4096))


def test_too_many_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of more links than are made makes none, also where it is one row."""
    monkeypatch.setattr("vbnfs.dataset.browsing._MOST_LINKS", 5)
    with pytest.raises(ValueError, match="more than 5 links"):
        folders("7,1,x,F,,,,0\n")


def test_rows_that_are_too_short_or_too_long() -> None:
    """A cell that a row lacks is an empty one, and one too many counts for nothing."""
    header = b"ecephys_session_id,file_id,mouse_id,structure_acronyms\n"
    assert folders_of(MANIFEST, header + b"7,0,3\n8\n8,1,4,,x,y\n") == {
        ("mouse_id", "3"): {"7": "../../../b/7"},
        ("mouse_id", "4"): {"ecephys_session_8.nwb": "../../../ecephys_sessions/ecephys_session_8.nwb"},
    }


@pytest.mark.parametrize("data", [b"\xff\xff", b"", b"a,b\n1,2\n", HEADER.encode()])
def test_what_is_no_such_table(data: bytes) -> None:
    """Bytes that are no table of sessions make no folder, or are refused."""
    try:
        assert folders_of(MANIFEST, data) == {}
    except ValueError:
        assert data == b"\xff\xff"
