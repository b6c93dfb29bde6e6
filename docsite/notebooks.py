"""A notebook as a document: its text and its code, one below the other (pure). The format is nbformat 4.5."""

import json
from typing import Any

SUFFIX = ".ipynb"


def document_of(notebook: str, path: str) -> str:
    """The Markdown of a notebook without outputs. At its end is a link to it, which the site has at `path`."""
    cells = [_text_of(cell) for cell in json.loads(notebook)["cells"]]
    return "\n\n".join([*cells, f'<a href="{path}" download>This page as a notebook</a>']) + "\n"


def _text_of(cell: dict[str, Any]) -> str:
    text = "".join(cell["source"]).strip("\n")
    return f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
