"""The site as a reader has it: a folder on a disk, in a browser, without a server."""

from pathlib import Path

import pytest

from tests.browser import Browser

pytestmark = pytest.mark.slow

# The search field and its results stand in a shadow tree.
_FIND = """
const deep = (root, what) => [...root.querySelectorAll(what),
    ...[...root.querySelectorAll("*")].flatMap(one => one.shadowRoot ? deep(one.shadowRoot, what) : [])]
const end = Date.now() + 60000
const found = what => new Promise((done, failed) => {
    const check = () => {
        const all = deep(document, what)
        if (all.length) done(all)
        else if (Date.now() > end) failed(new Error(`no ${what}`))
        else setTimeout(check, 20)
    }
    check()
});
"""


def test_a_reader_finds_a_page_without_a_server(first_page: Path, tmp_path: Path) -> None:
    """Words that are typed into the search lead to the heading that has them; no server is asked for anything."""
    with Browser(tmp_path / "profile") as browser:
        browser.open(first_page.as_uri())
        browser.evaluate("document.querySelector('.md-search__button').click()")
        browser.evaluate(f"(async () => {{ {_FIND} (await found('input[role=combobox]'))[0].focus() }})()")
        browser.type("externally-managed-environment")
        links = browser.evaluate(
            f"(async () => {{ {_FIND} return (await found('a[role=option]')).map(link => link.href) }})()"
        )
        assert (
            f"{first_page.with_name('troubleshooting.html').as_uri()}#error-externally-managed-environment" in links
        )
        assert [one for one in browser.requests if not one.startswith(("file:", "data:"))] == []
