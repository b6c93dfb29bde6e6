"""`vbnfs tree` of any HDF5 file: what it shows is what h5py finds, and nothing in a file drives a terminal."""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings

from tests.cli.hdf5_examples import undescribed, write_example
from tests.hdf5.samples import Sample, samples
from tests.hdf5.test_fuzz import damaged, damages
from vbnfs.access import structures
from vbnfs.cli.main import cli
from vbnfs.cli.outline_text import columns_of, cut
from vbnfs.errors import DatasetError, Hdf5Error, UsageError
from vbnfs.hdf5.outline_words import percent


def tree(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["tree", *map(str, arguments)], prog_name="vbnfs")


def outline(*arguments: str | Path) -> dict[str, Any]:
    """What `--json` says."""
    done = tree("--json", *arguments)
    assert done.exception is None, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def by_path(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["path"]: each for each in found["objects"]}


def failure(*arguments: str | Path) -> str:
    """Why a command fails, after what it shows."""
    error = tree(*arguments).exception
    assert isinstance(error, Hdf5Error), error
    return str(error)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "example.h5"
    write_example(path)
    return path


EXPECTED = """\
                    shape   type                          size  stored
/                                                          237  12 members
├─ \\x1b[2J\\r evil/                                           -  0 members
├─ deep/                                                     2  1 member
│  └─ er/                                                    2  1 member
│     └─ still/                                              2  1 member
│        └─ flag    2       bool                             2  contiguous
├─ kind                     enum int8 {GREEN: 1, RED: 0}     -  a named type
├─ loop -> /lost
├─ lost -> loop
├─ none             empty   >i2                              -  contiguous
├─ outside -> /x in the file other.h5
├─ raw              10      int32                            -  in other files
├─ scalar           scalar  int32                            4  contiguous
├─ short -> units
├─ soft -> /units/times
└─ units/                                                  231  5 members
   ├─ again         1000    float64                        160  10 chunks of 100, shuffle, gzip 4
   ├─ names         2       text                            32  contiguous
   ├─ rows          3       {time: float64, name: S5}       39  contiguous
   ├─ times = /units/again
   └─ up = /
"""


def test_what_it_shows(example: Path) -> None:
    """Groups, datasets, shapes, types, storage, links of each kind, an object with two names, a name with escapes."""
    done = tree(example)
    head, *shown = done.stdout.splitlines()
    assert (done.exit_code, head) == (0, f"{example}  17.5 KiB")
    assert shown == EXPECTED.splitlines()


def test_attributes(example: Path) -> None:
    """With -a the values of attributes stand below their objects: numbers, texts, and where references lead."""
    lines = [" ".join(line.split()) for line in tree("-a", example).stdout.splitlines()]
    assert {'│ @unit = "s"', "│ @colour = NaN", "│ @to = -> /units/rows"} <= set(lines), "\n".join(lines)
    assert not any("@" in line for line in tree(example).stdout.splitlines())


def test_the_json(example: Path) -> None:
    """The fields that docs/outline.md lists, for every kind of object."""
    found = outline("--attributes", example)
    assert found["file"] == str(example)
    assert (found["object"], found["is_of_dataset"], found["is_complete"]) == ("/", False, True)
    assert (found["size_bytes"], found["cached_bytes"], found["left_out"]) == (example.stat().st_size, None, {})
    objects = by_path(found)
    times = objects["/units/again"]
    assert times == {
        "path": "/units/again",
        "kind": "dataset",
        "shape": [1000],
        "maxshape": [None],
        "dtype": "float64",
        "datatype": {"kind": "float", "size_bytes": 8, "mantissa_bits": 52},
        "layout": "chunked",
        "chunk_shape": [100],
        "index": "B-tree 1",
        "chunks": 10,
        "filters": [
            {"number": 2, "name": "shuffle", "values": [8]},
            {"number": 1, "name": "gzip 4", "values": [4]},
        ],
        "stored_bytes": times["stored_bytes"],
        "cached_bytes": None,
        "attributes": ["unit"],
        "values": {"unit": {"dtype": "text", "shape": [], "value": "s", "is_cut": False}},
    }
    for each in objects.values():
        values = each.pop("values", {})  # by the names of attributes, which are the file's
        assert undescribed([each, *values.values()]) == set()
        each["values"] = values
    assert objects["/units"]["values"]["to"]["value"]["reference"] == "/units/rows"
    assert objects["/units"]["values"]["colour"]["value"] == "nan"
    assert objects["/units/rows"]["datatype"]["members"][1]["name"] == "name"
    others = {"values": {}}
    assert objects["/units/times"] == {"path": "/units/times", "kind": "hard link", "target": "/units/again"} | others
    assert objects["/soft"] == {"path": "/soft", "kind": "soft link", "target": "/units/times"} | others
    outside = {"path": "/outside", "kind": "external link", "target": "/x", "file": "other.h5"}
    assert objects["/outside"] == outside | others
    assert objects["/kind"]["datatype"]["values"] == [["GREEN", 1], ["RED", 0]]
    assert (objects["/none"]["shape"], objects["/scalar"]["shape"]) == (None, [])
    assert objects["/raw"]["layout"] == "external"
    assert json.loads(tree("--json", "--depth", "1", example).stdout)["objects"][-1]["path"] == "/units"


@settings(
    max_examples=max(1, settings.default.max_examples // 8),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(samples)
def test_a_tree_is_h5pys(sample: Sample) -> None:
    """Objects, shapes, types, chunks, filters, sizes and attributes of any file are those that h5py finds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        sample.write(path)
        found = outline(path)
        shown = tree(path)
        assert shown.exception is None
        assert len(shown.stdout.splitlines()) >= min(100, len(found["objects"]))
        objects = {each["path"]: each for each in found["objects"] if "link" not in each["kind"]}
        truth: dict[str, Any] = {}
        with h5py.File(path) as file:
            truth["/"] = described(file["/"])
            file.visititems(lambda name, item: truth.__setitem__(f"/{name}", described(item)))
            names = set(truth)
            # An object with several names may stand at another one of the shortest.
            for each, one in objects.items():
                with_h5py = described(file[each])
                assert one["kind"] == with_h5py.pop("kind")
                is_numpys = all(mark not in str(one.get("dtype")) for mark in " {[") and one.get("dtype") != "text"
                datatype = with_h5py.pop("dtype")
                if datatype is not None and is_numpys:
                    assert np.dtype(one["dtype"]) == datatype, each
                assert {name: one.get(name) for name in with_h5py} == with_h5py, each
    assert len(objects) == len(names)


def described(item: Any) -> dict[str, Any]:
    """What h5py says of an object, in the words of the JSON."""
    attributes = {"attributes": sorted(item.attrs)}
    if isinstance(item, h5py.Group):
        return {"kind": "group", "members": len(item), "dtype": None, **attributes}
    if isinstance(item, h5py.Datatype):
        return {"kind": "datatype", "dtype": item.dtype, **attributes}
    properties = item.id.get_create_plist()
    is_there = item.shape is not None
    return {
        "kind": "dataset",
        "dtype": item.dtype,
        "shape": list(item.shape) if is_there else None,
        "maxshape": list(item.maxshape) if is_there else None,
        "chunk_shape": list(item.chunks) if item.chunks and is_there else None,
        "chunks": item.id.get_num_chunks() if item.chunks and is_there else None,
        "stored_bytes": 0 if item.external or item.is_virtual else item.id.get_storage_size(),
        **attributes,
        **({} if properties.get_nfilters() else {"filters": []}),
    }


# What is shown of it


def test_depth_and_most(tmp_path: Path) -> None:
    """A group of 1,000 shows 100 and how many more there are; --most and --depth decide; sums are of all of it."""
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for number in range(1000):
            file.create_group(f"all/g{number:04}")
        file.create_dataset("all/g0000/inner/data", data=np.zeros(100, "u1"))
    path = tmp_path / "many.h5"
    lines = tree(path).stdout.splitlines()
    assert len(lines) == 2 + 1 + 1 + 100 + 2 + 1
    assert lines[-1].split() == ["└─", "...", "900", "more", "('--most", "0'", "shows", "all)"]
    assert len(tree("--most", "0", path).stdout.splitlines()) == 2 + 1 + 1 + 1000 + 2
    assert [line.split()[0] for line in tree("--depth", "0", path).stdout.splitlines()[2:]] == ["/"]
    short = tree("--depth", "1", path).stdout.splitlines()
    assert short[-1].split() == ["└─", "all/", "100", "1,000", "members"]
    assert len(outline(path)["objects"]) == 1004


def test_an_object_in_a_file(example: Path) -> None:
    """A path goes on into the file, by soft links, too; what is not in it is answered with what is."""
    for inner in ("units", "units/", "short", "./units", "units/up/units"):
        found = outline(example / inner)
        assert found["object"] in {"/units", "/units/up/units"}
        assert len(by_path(found)) >= 6
    for inner in ("units/times", "soft"):
        [only] = outline(example / inner)["objects"]
        assert (only["path"], only["shape"]) == ("/units/times", [1000])
    assert failure(example / "units" / "timez").endswith("/units/timez: no such object; /units has times, ...")
    assert ", deep, kind, loop, lost, none, outside, raw, ..." in failure(example / "nothing")
    assert "no such object; /units/times has nothing" in failure(example / "units/times/x")
    assert failure(example / "outside").endswith("/outside leads to /x in the file other.h5")
    assert "without an end" in failure(example / "loop")


def test_on_a_terminal(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, of any width, and none has a control character of the file's."""
    monkeypatch.setattr("vbnfs.cli.render.terminal_width", lambda: width)
    for width in (20, 60, 80, 200):
        shown = tree("--attributes", example).stdout
        assert max(map(columns_of, shown.splitlines()[1:])) <= width
        assert not {"\x1b", "\r"} & set(shown)
    assert "x" * 200 not in shown


def test_texts_are_cut_by_columns() -> None:
    """Wide characters take two columns, and combining ones none."""
    assert columns_of("ä日本") == 5
    assert columns_of("a\u0308") == 1
    assert cut("日本語テキスト", 9) == "日本語..."
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abc..."


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 9, "0 %"), (9, 9, "100 %"), (1, 1000, "<1 %"), (999, 1000, "99 %"), (1, 2, "50 %"), (0, 0, "0 %")],
)
def test_shares(part: int, whole: int, text: str) -> None:
    """A hundred percent is all of it, and none is nothing."""
    assert percent(part, whole) == text


# What is no HDF5 file, or not all of one


def test_no_hdf5_file(tmp_path: Path) -> None:
    """A file that is none, an empty one, a folder, a device, no file: each is named, with what can be done."""
    for name, data in (("a.csv", b"a,b\n1,2\n"), ("empty.h5", b""), ("zeros.nwb", bytes(300_000))):
        (tmp_path / name).write_bytes(data)
        assert "not an HDF5 file" in failure(tmp_path / name)
    assert f"a folder: name a file in it; 'ls {tmp_path}'" in failure(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in failure(tmp_path / "pipe")
    for missing in (tmp_path / "none.h5", tmp_path / "none" / "a.h5"):
        error = tree(missing).exception
        assert isinstance(error, DatasetError)
        assert f"'ls {tmp_path}' lists" in str(error)
    assert isinstance(tree("../nothing").exception, DatasetError)
    assert tree().exit_code == 2
    assert tree("--depth", "-1", tmp_path).exit_code == 2
    with pytest.raises(UsageError):
        cli.main(["tree", str(tmp_path), "--cache-size", "many"], standalone_mode=False)


def test_a_file_that_is_cut_short(example: Path, tmp_path: Path) -> None:
    """What is left of a truncated file is shown; it ends with the sizes, and that this is not all."""
    data, cut_file = example.read_bytes(), tmp_path / "cut.h5"
    for length in (len(data) - 1, len(data) // 2, 1000):
        cut_file.write_bytes(data[:length])
        assert "cut short" in failure(cut_file)
        assert tree(cut_file).stdout.splitlines()[2].split()[0] == "/"
    cut_file.write_bytes(data[:64])
    assert "not an HDF5 file" in failure(cut_file) or "cut short" in failure(cut_file)


def test_a_damaged_file(example: Path, tmp_path: Path) -> None:
    """A file with a damaged group shows the rest, and says what was left out."""
    data, damaged = example.read_bytes(), tmp_path / "damaged.h5"
    tables = [at for at in range(0, len(data) - 4, 8) if data[at : at + 4] == b"SNOD"]
    damaged.write_bytes(data[: tables[0]] + b"XXXX" + data[tables[0] + 4 :])
    assert "not all of its structure was found: left out: symbol table (1)" in failure(damaged)
    assert by_path(json.loads(tree("--json", damaged).stdout))["/"]["kind"] == "group"


@settings(
    max_examples=max(1, settings.default.max_examples // 8),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(samples, damages)
def test_no_damage_is_a_defect(sample: Sample, done: list[tuple[str, int, bytes]]) -> None:
    """Whatever a file's bytes are, tree and map show what they find, or say in a sentence why they cannot."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        sample.write(path)
        path.write_bytes(damaged(path.read_bytes(), done))
        for command in (
            "tree",
            "tree --attributes",
            "tree --json -a",
            "map",
            "map --json",
            f"map -o {folder}/map.svg",
        ):
            shown = CliRunner().invoke(cli, [*command.split(), str(path)])
            assert shown.exception is None or isinstance(shown.exception, Hdf5Error), command
            if "--json" in command and shown.stdout:
                json.loads(shown.stdout)


def test_more_objects_than_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file with too many objects some are shown; the message says so; a group of it is shown as a whole."""
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for number in range(300):
            file.create_dataset(f"g{number % 3}/d{number}", data=[number])
    monkeypatch.setattr(structures, "BOUNDS", replace(structures.BOUNDS, objects=150))
    path = tmp_path / "many.h5"
    assert "left out: beyond the bounds" in failure(path)
    found = json.loads(tree("--json", path).stdout)
    assert sum(one["kind"] == "not read" for one in found["objects"]) == 300 + 4 - 150
    assert found["objects"][0]["stored_bytes"] is None
    assert "not read" in tree(path).stdout
    assert [one["kind"] for one in outline(path / "g2")["objects"]] == ["group"] + 100 * ["dataset"]


def test_a_link_to_a_file(example: Path, tmp_path: Path) -> None:
    """A symbolic link to a file is that file."""
    (tmp_path / "link").symlink_to(example)
    assert outline(tmp_path / "link" / "units")["object"] == "/units"
