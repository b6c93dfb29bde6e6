"""The folders of a dataset version, as `vbnfs://v0.5.0` shows them (pure).

Files stand where the manifest has them. Sessions stand in `ecephys_sessions`, too, under their names alone, as in a
mount: that path is the same in all versions.
"""

from collections.abc import Sequence

from vbnfs.api.files import File
from vbnfs.dataset.tree_builder import flat_names

Folder = dict[str, "Folder | File"]  # in the order of the names
Node = Folder | File


def folders_of(files: Sequence[File]) -> Folder:
    """The folder of a version that has these files."""
    places = {file.entry.path: file for file in files}
    flat = {path: places[entry.path] for path, entry in flat_names([file.entry for file in files])}
    top: Folder = {}
    for path, file in sorted((places | flat).items()):
        folder = top
        for part in path[:-1]:
            below = folder.setdefault(part, {})
            assert isinstance(below, dict), "a manifest with a file and a folder of one name is refused"
            folder = below
        folder[path[-1]] = file
    return top


def node_at(top: Folder, path: str) -> Node | None:
    """The file or folder at a path below; '' is the folder itself. None if there is none."""
    node: Node | None = top
    for part in path.split("/") if path else ():
        if not isinstance(node, dict):
            return None
        node = node.get(part)
    return node
