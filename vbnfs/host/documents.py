"""The pages of docs/ that are installed with the program: they can be read without network, too."""

from importlib.resources import files
from pathlib import Path


def installed_page(name: str) -> Path | None:
    """A page's path: in a wheel it is in the package, in a clone beside it. None where it is in neither."""
    package = Path(str(files("vbnfs")))
    pages = (package / "docs" / name, package.parent / "docs" / name)
    return next((page for page in pages if page.is_file()), None)
