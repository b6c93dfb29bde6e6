"""The pictures of the documents: what the site's build draws, and what stands in docs/pictures."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docsite.benchmark_picture import benchmark
from docsite.building import ROOT, documents_of
from docsite.mounted_pictures import drawn_in_a_mount
from docsite.page_pictures import drawn_in_a_browser, source_of
from docsite.pictures import drawn
from docsite.scale_picture import scale

PICTURES = ROOT / "docs" / "pictures"
PERFORMANCE = (ROOT / "docs" / "PERFORMANCE.md").read_text(encoding="utf-8")
SCALE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def test_the_pictures_are_those_that_are_drawn() -> None:
    """docs/pictures has what `script/docs --pictures` draws; of what was measured, the same bars."""
    for name, text in drawn(PERFORMANCE, SCALE).items():
        kept = (PICTURES / name).read_text(encoding="utf-8")
        if name == "benchmark.svg":  # the site's own is drawn from the tables of the day
            kept, text = (re.sub(r"[\d.,]+", "", one) for one in (kept, text))  # noqa: PLW2901
        assert kept == text, f"{name}: script/docs --pictures draws it anew"


def test_each_picture_is_shown_and_says_what_it_shows() -> None:
    """Each picture stands in a document. It has a title and a description for people who cannot see it."""
    documents = "".join(documents_of(ROOT).values())
    for path in sorted(PICTURES.iterdir()):
        assert re.search(rf"!\[[^\]]+\]\([a-z/]*pictures/{re.escape(path.name)}\)", documents), path.name
        if path.suffix == ".png":  # its text stands in the document
            continue
        root = ElementTree.parse(path).getroot()
        assert all(root.findtext(f"{SVG}{part}", "").strip() for part in ("title", "desc")), path.name


def test_the_benchmark_has_the_figures_of_the_document() -> None:
    """The bars have the medians of the tables; a document without them is an error."""
    row = r"(#### Opening, `home`\n.*?\| pynwb opens the session \| vbnfs \| )[\d.]+ s"
    changed = re.sub(row, r"\g<1>9.87 s", PERFORMANCE, count=1, flags=re.DOTALL)
    assert "9.87 s" in benchmark(changed).svg()
    assert "9.87 s" not in benchmark(PERFORMANCE).svg()
    with pytest.raises(ValueError, match=r"no table Readers, `home` with one unit's spike times \(h5py\)"):
        benchmark("# Performance\n")


def test_the_courses_have_the_figures_of_the_document() -> None:
    """The bars have what the table says; a document without it is an error."""
    [found] = re.findall(r"^\| 200 \| none \| 0% \| ([\d,]+) \|", SCALE, re.MULTILINE)
    assert f"{found} requests" in scale(SCALE).svg()
    with pytest.raises(ValueError, match=r"docs/scale\.md has no table"):
        scale("# Scale\n")


@pytest.mark.slow
def test_the_page_is_drawn_in_a_browser(tmp_path: Path) -> None:
    """The pictures of the page that are kept are small, and of the page as it is now: its text, and its style."""
    for name, picture in drawn_in_a_browser(tmp_path).items():
        kept = (PICTURES / name).read_bytes()
        assert picture[:8] == kept[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture[16:24] == kept[16:24]  # width and height: PNG, 11.2.2
        assert 20_000 < len(kept) < 150_000
        assert source_of(picture) == source_of(kept) != "", f"{name}: script/docs --pictures draws it anew"


@pytest.mark.slow
def test_a_map_is_drawn_in_a_mount(tmp_path: Path) -> None:
    """`vbnfs map` draws a session of which one unit's spikes were read; `vbnfs top` shows a program that reads it."""
    drawn = drawn_in_a_mount(tmp_path)
    for content in drawn.values():
        ElementTree.fromstring(content)
    text = drawn["map.svg"].decode()
    assert "/units/spike_times" in text
    assert "ecephys_session" in drawn["top.svg"].decode()
    [share] = re.findall(r"of it cached \((\d+) %\)", text)
    assert 0 < int(share) < 50
