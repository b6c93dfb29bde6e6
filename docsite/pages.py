"""A document of the repository as a page of the site: its name, its headings and its links (pure).

The repository's documents are written for GitHub's Markdown (GitHub Flavored Markdown Spec, 0.29). The site's
generator reads Python-Markdown, which spells anchors in another way, and knows no links to what the site lacks.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import groupby

from docsite.contents import HOME

_FENCE = re.compile(r"^ *(```|~~~)")
_HEADING = re.compile(r"^(#{1,6}) (.*?)\s*$")
# A link, or code, in which brackets are no link; whichever begins first.
_LINK_OR_CODE = re.compile(
    r"(?P<mark>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<path>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)|`+[^`]*`+"
)


def target_of(document: str) -> str:
    """The page that a document becomes; the README is the first one. All pages are in one folder.

    From a page in another folder the generator links home to a folder, which a server knows to be a page.
    """
    flat = document.removeprefix("docs/").replace("/", "-")
    return "index.md" if document == HOME else flat.lower().replace(".ipynb", ".md")


def prose(text: str) -> Iterator[tuple[str, bool]]:
    """A text's lines, and whether each is prose: no code block, nor its fences."""
    is_code = False
    for line in text.splitlines():
        is_fence = _FENCE.match(line) is not None
        is_code ^= is_fence
        yield line, not (is_code or is_fence)


def anchor_of(heading: str) -> str:
    """What GitHub puts behind `#` for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def title_of(text: str) -> str:
    """A document's first heading, without marks of code. Raises a ValueError if there is none."""
    for line, is_prose in prose(text):
        if is_prose and (match := _HEADING.match(line)):
            return match[2].replace("`", "")
    raise ValueError("a document without a heading")


def page_of(document: str, text: str, documents: Collection[str], has_file: Callable[[str], bool]) -> str:
    """A document's text as the site's generator takes it.

    Headings get GitHub's anchors. Links to `documents` lead to their pages, links to pictures to the copies that
    `has_file` says the site has, and of a link to any other file of the repository only the text is left.
    """
    seen: Counter[str] = Counter()

    def headed(line: str) -> str:
        match = _HEADING.match(line)
        if match is None:
            return line
        anchor = anchor_of(match[2])
        seen[anchor] += 1
        return f"{line.rstrip()} {{ #{anchor}{f'-{seen[anchor] - 1}' if seen[anchor] > 1 else ''} }}"

    lines = []
    # A link may begin in one line and end in the next one of its paragraph.
    for (is_prose, _), group in groupby(prose(text), key=lambda item: (item[1], item[0].strip() == "")):
        part = [line for line, _ in group]
        if is_prose:
            part = list(map(headed, _linked("\n".join(part), document, documents, has_file).split("\n")))
        lines += part
    return "\n".join(lines) + "\n"


def _linked(paragraph: str, document: str, documents: Collection[str], has_file: Callable[[str], bool]) -> str:
    """A paragraph with its links as the site needs them."""
    folder = posixpath.dirname(document)

    def replace(match: re.Match[str]) -> str:
        path, anchor = match["path"], match["anchor"] or ""
        if not path or re.match(r"https?:", path):
            return match[0]
        linked = posixpath.normpath(posixpath.join(folder, path))
        if linked in documents:
            target = target_of(linked)
        elif has_file(linked):
            target = linked.removeprefix("docs/")
        else:
            return match["text"]
        return f"{match['mark']}[{match['text']}]({target}{anchor})"

    return _LINK_OR_CODE.sub(replace, paragraph)
