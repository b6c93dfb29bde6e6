"""Files with more in them than a page can show: what is read, and the page, are bounded, and say what is left out."""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.web.conftest import Visit, visiting
from vbnfs.web import structure_page

pytestmark = pytest.mark.slow  # measured for coverage a walk takes four times as long

_MOST_PAGE_BYTES = 1_000_000
_MOST_FETCHED_BYTES = 48 << 20


def datasets(file: h5py.File) -> None:
    """A hundred thousand datasets in a group."""
    group, space = file.create_group("many"), h5py.h5s.create_simple((1,))
    for number in range(100_000):
        h5py.h5d.create(group.id, b"d%d" % number, h5py.h5t.NATIVE_DOUBLE, space)


def attributes(file: h5py.File) -> None:
    """A hundred thousand attributes of a group."""
    group, space = file.create_group("many"), h5py.h5s.create_simple((1,))
    for number in range(100_000):
        h5py.h5a.create(group.id, b"a%d" % number, h5py.h5t.NATIVE_DOUBLE, space)


def deep(file: h5py.File) -> None:
    """Groups in groups, two thousand of them."""
    group = file
    for _ in range(2000):
        group = group.create_group("g")


def circle(file: h5py.File) -> None:
    """A group that is in itself."""
    file["self"] = file


def large_attributes(file: h5py.File) -> None:
    """Attributes of 8 MB, and some hundreds of them that are markup."""
    file.attrs["text"] = "<script>alert(1)</script>" * 320_000
    for number in range(300):
        file.create_group(f"{number}").attrs.update({f"<b>{name}": "<script>\n" * 600 for name in range(20)})


def long_names(file: h5py.File) -> None:
    """Names of sixty thousand letters, of groups and in links."""
    for number in range(100):
        file.create_group("<i>\n" * 15_000 + str(number))
        file[f"link {number}"] = h5py.SoftLink("y" * 60_000)


def wide(file: h5py.File) -> None:
    """Two hundred groups of two hundred groups."""
    for number in range(200):
        for inner in range(200):
            file.create_group(f"g{number}/h{inner}")


MAKES = (datasets, attributes, deep, circle, large_attributes, long_names, wide)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """A release of all these files."""
    place, files = tmp_path_factory.mktemp("large"), {}
    for make in MAKES:
        with h5py.File(place / make.__name__, "w", libver="latest") as file:
            make(file)
        files[f"odd/{make.__name__}.nwb"] = Path(place / make.__name__).read_bytes()
    with serve({"0.5.0": files}) as server:
        yield server


@pytest.fixture
def visitor(served: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """The page of that release. A slow machine is not what bounds a walk here: what that leaves out is not kept."""
    monkeypatch.setattr(structure_page, "_BOUNDS", replace(structure_page._BOUNDS, seconds=600.0))
    with visiting(served) as visit:
        yield visit


def structure_of(visitor: Visit, name: str, **query: str) -> str:
    """The page of what is in a file, which is no larger than a browser can show."""
    answer = visitor.browser.get(f"/structure/v0.5.0/odd/{name}.nwb", params=query)
    assert answer.status_code == 200
    assert len(answer.content) < _MOST_PAGE_BYTES
    assert "<script>alert" not in answer.text
    return html.unescape(answer.text)


@pytest.mark.parametrize("make", MAKES, ids=[make.__name__ for make in MAKES])
def test_what_is_read_of_a_large_structure(
    visitor: Visit, served: FakeS3Server, make: Callable[[h5py.File], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are fetched are bounded, and so is the page. The next look walks nothing anew."""
    before = served.body_bytes
    first = structure_of(visitor, make.__name__)
    assert served.body_bytes - before < _MOST_FETCHED_BYTES
    monkeypatch.setattr(structure_page, "find_in_content", None)
    again = structure_of(visitor, make.__name__)
    assert [text.count("<tr>") for text in (first, again)] == [first.count("<tr>")] * 2


@pytest.mark.parametrize(
    ("name", "query", "words"),
    [
        ("datasets", {}, "beyond the bounds"),
        ("datasets", {"object": "many"}, "99,800 more names"),
        ("datasets", {"object": "many", "page": "2"}, "d10179"),
        ("datasets", {"object": "many", "page": "2"}, "Page 2 of 500"),
        ("datasets", {"object": "many", "page": "10000"}, "d99999"),
        ("wide", {"page": "0"}, "g0/"),
        ("attributes", {}, "100,000 attributes"),
        ("attributes", {"object": "many"}, "99,950 more"),
        ("deep", {"object": "g/" * 100}, "beyond the bounds"),
        ("circle", {"object": "self/" * 100}, "the same object as"),
        ("large_attributes", {}, "'vbnfs tree' shows all of an object"),
        ("long_names", {}, "... (60,00"),
        ("wide", {}, "g199/"),
        ("wide", {"object": "g199"}, "h199"),
    ],
)
def test_what_is_said_of_a_large_structure(visitor: Visit, name: str, query: dict[str, str], words: str) -> None:
    """What is left out stands on the page, and what is in a group is had by its name, a page at a time."""
    assert words in structure_of(visitor, name, **query)


@pytest.mark.parametrize("path", ["self/" * 101, "self/" * 3_000], ids=["101", "3,000"])
def test_an_address_without_an_end(visitor: Visit, path: str) -> None:
    """A path that goes round leads nowhere once it is deeper than objects are; a dot in it counts for nothing."""
    answer = visitor.browser.get("/structure/v0.5.0/odd/circle.nwb", params={"object": path})
    assert answer.status_code == 404
    assert len(answer.content) < 10_000
    dots = visitor.browser.get("/structure/v0.5.0/odd/circle.nwb", params={"object": "./" * 8_000})
    assert (dots.status_code, len(re.findall(r"\./\./", dots.text))) == (200, 0)
    assert len(dots.content) < _MOST_PAGE_BYTES
