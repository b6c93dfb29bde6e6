"""The site as it was built: every link leads somewhere, and nothing is loaded from another server.

An address on another server is the reader's own to follow. So `http` and `https` are allowed in links, and in nothing
that a page loads by itself: scripts, styles, pictures, fonts.
"""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}


@dataclass
class _Page(HTMLParser):
    """What a page can be linked at, what it links to, and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.anchors.add(values["id"])
        if "src" in values:
            self.loads.append(values["src"])
        if "href" in values and tag == "a":
            self.links.append(values["href"])
        if "href" in values and tag == "link" and set(values.get("rel", "").split()) & _LOADING_LINKS:
            self.loads.append(values["href"])


def problems_of(site: Path) -> list[str]:
    """What is wrong with a built site, a line for each: links that lead nowhere, and what other servers have."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    problems = []
    for path, page in pages.items():
        name = path.relative_to(site)
        problems += [f"{name}: loads {one} from another server" for one in page.loads if urlsplit(one).netloc]
        local = [one for one in (*page.links, *page.loads) if not urlsplit(one).scheme and not urlsplit(one).netloc]
        problems += [f"{name}: {one} leads nowhere" for one in local if not _leads_somewhere(path, one, pages)]
    return problems


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _leads_somewhere(page: Path, link: str, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(link)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors
