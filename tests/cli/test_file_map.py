"""`vbnfs map`: cells, parts and pictures say where arrays lie, and what is cached."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.color import Color, ColorSystem

from tests.cli.hdf5_examples import MIB, large_example, places_of, undescribed
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cli.main import cli
from vbnfs.cli.map_drawing import draw
from vbnfs.cli.map_svg import svg
from vbnfs.cli.map_text import lines
from vbnfs.errors import Hdf5Error, UsageError
from vbnfs.hdf5.coverage import Coverage
from vbnfs.hdf5.file_map import FileMap
from vbnfs.hdf5.found_file import Hdf5File
from vbnfs.hdf5.map_colours import colours_of, pale
from vbnfs.hdf5.structure import Contiguous, Dataset, Group, HardLink, Structure
from vbnfs.objects import ByteRange

SVG = "{http://www.w3.org/2000/svg}"


def run_map(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["map", *map(str, arguments)], prog_name="vbnfs")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    large_example(tmp_path / "large.h5")
    return tmp_path / "large.h5"


def file_of(places: list[tuple[int, int]], size_bytes: int, structure: set[int], cached: set[int] | None) -> Hdf5File:
    """A file with datasets at these places, each in a group of its own, and with these blocks of structure."""
    groups = {f"g{number}": HardLink(1000 + number) for number in range(len(places))}
    objects: dict[int, Any] = {0: Group(groups, frozenset())}
    for number, (start, stop) in enumerate(places):
        objects[1000 + number] = Group({"data": HardLink(2000 + number)}, frozenset())
        layout = Contiguous(start, stop - start)
        objects[2000 + number] = Dataset((stop - start,), None, None, layout, (), frozenset())
    found = Structure(root=0, objects=objects, blocks=frozenset(structure), is_complete=True)
    is_of_dataset = cached is not None
    return Hdf5File("f.h5", size_bytes, (), 0, found, Coverage(size_bytes, cached), is_of_dataset)


@given(
    st.integers(1, 12 * BLOCK_BYTES),
    st.lists(st.tuples(st.integers(0, 12 * BLOCK_BYTES), st.integers(0, 3 * BLOCK_BYTES)), max_size=12),
    st.sets(st.integers(0, 11)),
    st.sets(st.integers(0, 11)),
    st.integers(1, 3000),
)
def test_parts_are_the_whole_file(
    size_bytes: int, places: list[tuple[int, int]], structure: set[int], cached: set[int], most: int
) -> None:
    """Each byte belongs to one part, whatever arrays a file claims to have; cells cover it, and are not too many."""
    count = -(-size_bytes // BLOCK_BYTES)
    cached = {number for number in cached if number < count}
    file = file_of([(start, start + length) for start, length in places], size_bytes, structure, cached)
    drawn = FileMap(file)
    assert sum(part.size_bytes for part in drawn.parts) == size_bytes
    assert sum(part.cached_bytes for part in drawn.parts) == file.coverage.cached_bytes
    assert all(0 <= part.cached_bytes <= part.size_bytes for part in drawn.parts)
    assert len([part for part in drawn.parts if part.kind == "arrays"]) <= 7
    cell_bytes = drawn.cell_bytes(most)
    cells = drawn.cells(cell_bytes)
    assert len(cells) == -(-size_bytes // cell_bytes) <= max(most, 1)
    assert all(0 <= cell.share <= 1 for cell in cells)
    assert {cell.part for cell in cells} <= set(range(len(drawn.parts)))
    assert len(list(ET.fromstring(svg(draw(drawn))))) > 3


@given(st.integers(0, 5 * BLOCK_BYTES), st.sets(st.integers(0, 4)), st.data())
def test_coverage_is_counted_by_bytes(size_bytes: int, blocks: set[int], data: st.DataObject) -> None:
    """The cached bytes of any range are those of its bytes that lie in cached blocks and in the file."""
    count = -(-size_bytes // BLOCK_BYTES)
    blocks = {number for number in blocks if number < count}
    start = data.draw(st.integers(0, 6 * BLOCK_BYTES))
    stop = data.draw(st.integers(start, 6 * BLOCK_BYTES))
    expected = sum(
        max(0, min(stop, size_bytes, (number + 1) * BLOCK_BYTES) - max(start, number * BLOCK_BYTES))
        for number in blocks
    )
    assert Coverage(size_bytes, blocks).bytes_of([ByteRange(start, stop)]) == expected
    assert Coverage(size_bytes, None).bytes_of([ByteRange(start, stop)]) == max(0, min(stop, size_bytes) - start)


def test_the_json(example: Path) -> None:
    """Arrays are where h5py finds them; parts are the groups at the top, from the largest on."""
    found = json.loads(run_map("--json", example).stdout)
    assert undescribed(found) == set()
    assert [part["name"] for part in found["parts"]] == ["units/", "acquisition/", "last", "structure", "other"]
    truth = places_of(example)
    assert [part["size_bytes"] for part in found["parts"][:3]] == [
        *(5 * MIB, sum(stop - start for start, stop in truth["/acquisition/running"]), MIB // 2)
    ]
    assert (found["cached_blocks"], found["cached_bytes"], found["block_bytes"]) == (None, None, BLOCK_BYTES)
    for one in found["arrays"]:
        assert one["places"] == [list(place) for place in truth[one["path"]]]
    assert [one["places"][0][0] for one in found["arrays"]] == sorted(places[0][0] for places in truth.values())
    inner = json.loads(run_map("--json", example / "units").stdout)
    assert [part["name"] for part in inner["parts"]] == ["times", "waves", "structure", "elsewhere in the file"]


def test_without_colours(example: Path) -> None:
    """In a pipe cells are letters, a legend says whose, and each line below the path is 80 columns at most."""
    shown = run_map(example).stdout
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines()[1:])) <= 80
    rows = shown.splitlines()[2:]
    grid = "".join(line[7:] for line in rows[: rows.index("")])
    counts = {letter: grid.count(letter) for letter in "ABC"}
    cell_bytes = example.stat().st_size / len(grid)
    for letter, size_bytes in zip("ABC", (5 * MIB, MIB, MIB // 2), strict=True):
        assert abs(counts[letter] * cell_bytes - size_bytes) < 3 * cell_bytes
    assert {"Aa units/", "Bb acquisition/", "Cc last"} <= {" ".join(line.split()[:2]) for line in shown.splitlines()}
    assert shown.splitlines()[-4].split()[-1] == "/units/times"


def test_with_colours() -> None:
    """On a terminal cells have the colours of the legend; their height says how much of them is cached."""
    count = 16
    places = [(0, 4 * BLOCK_BYTES), (4 * BLOCK_BYTES, 12 * BLOCK_BYTES)]
    drawn = FileMap(file_of(places, count * BLOCK_BYTES, {15}, {0, 1, 4, 5, 6, 7, 15}))
    colours = colours_of(drawn.parts)
    assert [part.name for part in drawn.parts] == ["g1/", "g0/", "structure", "other"]
    for width in (20, 27, 47, 120, 300):
        shown = list(lines(drawn, width, has_colours=True))
        text = ["".join(text for text, _ in spans) for spans in shown]
        assert all(len(line) <= max(width, 47) or "cell" in line or "cached" in line for line in text)
        cells = [(letter, style) for spans in shown[2:] if len(spans) > 1 for letter, style in spans[1:]]
        styles = {style for letter, style in cells if set(letter) <= set("▁█")}
        assert {colours[0], colours[1], f"dim {colours[0]}", f"dim {colours[1]}"} <= styles
    assert sum(text.count("units") for text in text) == 0


def test_colours_differ() -> None:
    """Colours, and pale ones, differ in brightness from white and from one another, also without their hues."""
    drawn = FileMap(file_of([(n * 100, n * 100 + 90) for n in range(7)], 4 * BLOCK_BYTES, {0}, None))
    colours = colours_of(drawn.parts)
    assert len(set(colours)) == len(colours) == 9
    assert pale("#000000") == "#c0c0c0"
    assert pale("#ffffff") == "#ffffff"


def test_colours_of_a_terminal() -> None:
    """Also where a terminal has 256 colours, no two parts have the same."""
    shown = {
        Color.parse(colour).downgrade(ColorSystem.EIGHT_BIT).number
        for colour in colours_of(FileMap(file_of([(n * 9, n * 9 + 5) for n in range(7)], 99, {0}, None)).parts)
    }
    assert len(shown) == 9


def test_many_groups() -> None:
    """Six groups have colours of their own, the largest ones; the others have one together."""
    places = [(n * 10_000, n * 10_000 + 100 * (n + 1)) for n in range(20)]
    names = [part.name for part in FileMap(file_of(places, BLOCK_BYTES, {0}, None)).parts]
    assert names == ["g19/", "g18/", "g17/", "g16/", "g15/", "g14/", "14 others", "structure", "other"]
    exactly = FileMap(file_of(places[:7], BLOCK_BYTES, {0}, None)).parts
    assert [part.name for part in exactly][6:] == ["g0/", "structure", "other"]


# Pictures


def test_svg(example: Path, tmp_path: Path) -> None:
    """The SVG is well-formed; its title, its description and its texts say in words what it shows."""
    picture = tmp_path / "map.svg"
    done = run_map(example, "-o", picture)
    assert done.exception is None
    assert done.stdout == f"{picture}  {example}\n"
    found = ET.fromstring(picture.read_bytes())
    assert found.get("role") == "img"
    assert found.findtext(f"{SVG}title") == "large.h5"
    assert "units/: 5.0 MiB" in str(found.findtext(f"{SVG}desc"))
    texts = [text.text for text in found.iter(f"{SVG}text")]
    assert {"units/", "acquisition/", "last", "structure", "/units/times", "5.0M"} <= set(texts)
    assert {rect.get("fill") for rect in found.iter(f"{SVG}rect")} >= {"#0072b2", "#e69f00", "#009e73", "#ffffff"}
    width, height = float(str(found.get("width"))), float(str(found.get("height")))
    for rect in list(found.iter(f"{SVG}rect"))[1:]:
        left, top = float(str(rect.get("x"))), float(str(rect.get("y")))
        assert 0 <= left <= left + float(str(rect.get("width"))) <= width
        assert 0 <= top <= top + float(str(rect.get("height"))) <= height
    assert max(float(str(text.get("y"))) for text in found.iter(f"{SVG}text")) <= height
    assert len(picture.read_bytes()) < 100_000
    assert picture.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert list(tmp_path.glob(".*")) == []


def _umask() -> int:
    import os  # noqa: PLC0415

    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def test_png(example: Path, tmp_path: Path) -> None:
    """The PNG has the same colours in the same places, with two pixels for each of the SVG's in either direction."""
    done = run_map(example, "-o", tmp_path / "map.PNG", "--json")
    assert json.loads(done.stdout)["object"] == "/"
    with Image.open(tmp_path / "map.PNG") as image:
        picture = draw(FileMap(file_of([(0, 100)], 1000, {0}, None)))
        assert image.width == 2 * picture.width
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (255, 255, 255), (0x20, 0x20, 0x20)} <= colours


def test_names_of_pictures(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another ending is wrong usage, a folder that is not there is named, and so is what PNG needs."""
    assert isinstance(run_map(example, "-o", tmp_path / "map.pdf").exception, UsageError)
    error = run_map(example, "-o", tmp_path / "none" / "map.svg").exception
    assert isinstance(error, Hdf5Error)
    assert "map.svg: cannot be written: No such file or directory" in str(error)
    monkeypatch.setitem(__import__("sys").modules, "vbnfs.cli.map_png", None)
    error = run_map(example, "-o", tmp_path / "map.png").exception
    assert isinstance(error, Hdf5Error)
    assert "pip install 'vbnfs[map]', or write .svg" in str(error)


def test_names_of_a_file_draw_nothing(tmp_path: Path) -> None:
    """Names that would end an element of SVG, or drive a terminal, are texts."""
    path = tmp_path / "<b>&.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset('"/><script>\x1b[31m/]]>&', data=np.zeros(1000))
    assert run_map(path, "-o", tmp_path / "map.svg").exception is None
    found = ET.parse(tmp_path / "map.svg").getroot()
    assert found.find(f".//{SVG}script") is None
    assert found.findtext(f"{SVG}title") == "<b>&.h5"
    assert "\x1b" not in run_map(path).stdout
