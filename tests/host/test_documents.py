"""Where the program finds its pages."""

from pathlib import Path

from vbnfs.host.documents import installed_page


def test_a_page_of_this_clone() -> None:
    """A page stands beside the package; one that there is not is not found."""
    page = installed_page("quick-start.md")
    assert page == Path(__file__).parents[2] / "docs" / "quick-start.md"
    assert installed_page("no-such-page.md") is None
