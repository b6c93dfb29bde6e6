"""Mount namespaces without the mounts of other tests: a copy of a mount keeps its daemon alive."""

from typing import Final

NO_MOUNTS: Final = "umount --all --lazy --no-canonicalize --types fuse.vbnfs 2>/dev/null || :"
WITHOUT_MOUNTS: Final = ("sh", "-c", f'{NO_MOUNTS}; exec "$@"', "sh")  # a command follows
ALONE: Final = ("unshare", "--mount", "--propagation", "private", *WITHOUT_MOUNTS)
