"""The site's folder: pages and pictures as the generator takes them, its run, and what is done afterwards."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from docsite.checking import problems_of
from docsite.commands import commands_page
from docsite.contents import COMMANDS, HOME, JOURNAL, Section, sections
from docsite.notebooks import SUFFIX, document_of
from docsite.pages import page_of, target_of, title_of

ROOT: Final = Path(__file__).parents[1]
_NOTEBOOKS: Final = f"notebooks/*{SUFFIX}"
_COPIED: Final = ("*.png", "*.json", "pictures/*.svg", "pictures/*.png", _NOTEBOOKS)
_SHIM: Final = "worker-in-a-frame.js"
# The generator's pages load this from unpkg.com where they are read from a disk. Ours stands in for it.
_SHIM_ELSEWHERE: Final = re.compile(r'(<script src=")https://unpkg\.com/iframe-worker/shim"')
_SETTINGS: Final = {
    "site_name": "vbnfs",
    "site_description": "A versioned scientific dataset on S3 that feels like a local disk",
    "docs_dir": "pages",
    "site_dir": "html",
    "use_directory_urls": False,
    "theme": {"name": "material", "font": False, "features": ["content.code.copy", "navigation.top", "toc.follow"]},
    "plugins": ["search", "offline"],
    "markdown_extensions": ["attr_list", "tables", {"toc": {"permalink": True}}, "pymdownx.superfences"],
}


class BuildError(Exception):
    """The site could not be built without a warning; the text is what the generator or the checks say."""


def documents_of(root: Path) -> dict[str, str]:
    """The texts of the documents that the site has, by their names in the repository; of notebooks as Markdown."""
    paths = [
        *sorted(root.glob("*.md")),
        *sorted((root / "docs").glob("*.md")),
        *sorted((root / JOURNAL).glob("*.md")),
    ]
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    docs = root / "docs"
    for path in sorted(docs.glob(_NOTEBOOKS)):
        in_docs = path.relative_to(docs).as_posix()
        texts[f"docs/{in_docs}"] = document_of(path.read_text(encoding="utf-8"), in_docs)
    return texts


def build(folder: Path, *, root: Path = ROOT, pictures: Path | None = None) -> Path:
    """Build the site of the repository `root` in `folder`, which is emptied. Returns its first page.

    `pictures` is a folder of pictures that take the place of those in docs/pictures that have their names. Raises a
    `BuildError` if there is anything to warn of.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pages = folder / "pages"
    _write_pages(pages, root, pictures)
    _run_generator(folder)
    site = folder / "html"
    _load_nothing_from_elsewhere(site)
    if problems := problems_of(site):
        raise BuildError("\n".join(problems))
    return site / target_of(HOME).replace(".md", ".html")


def _write_pages(pages: Path, root: Path, pictures: Path | None) -> None:
    documents = documents_of(root)
    for pattern in _COPIED:
        for path in sorted((root / "docs").glob(pattern)):
            _copy(path, pages / path.relative_to(root / "docs"))
    for path in sorted(pictures.glob("*.svg")) if pictures else ():
        _copy(path, pages / "pictures" / path.name)

    def has_file(path: str) -> bool:
        return (pages / path.removeprefix("docs/")).is_file()

    for name, text in documents.items():
        _write(pages / target_of(name), page_of(name, text, documents, has_file))
    _write(pages / f"{COMMANDS}.md", commands_page(documents))
    shutil.copy(Path(__file__).with_name(_SHIM), pages / _SHIM)
    settings = {**_SETTINGS, "nav": _navigation(sections(list(documents)), documents)}
    # JSON is YAML (YAML 1.2, 1.1).
    _write(pages.parent / "mkdocs.yml", json.dumps(settings, indent=2))


def _navigation(found: Sequence[Section], documents: dict[str, str]) -> list[object]:
    return [
        {
            section.title: [
                {"Commands": f"{COMMANDS}.md"} if name == COMMANDS else {title_of(documents[name]): target_of(name)}
                for name in section.documents
            ]
        }
        for section in found
    ]


def _run_generator(folder: Path) -> None:
    program = Path(sys.executable).with_name("zensical")
    command = [str(program), "build", "--strict", "--clean", "--config-file", "mkdocs.yml"]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0 or "warning" in done.stdout.lower():
        raise BuildError(done.stdout.rstrip())


def _load_nothing_from_elsewhere(site: Path) -> None:
    for path in site.glob("*.html"):
        text = _SHIM_ELSEWHERE.sub(rf'\1{_SHIM}"', path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
