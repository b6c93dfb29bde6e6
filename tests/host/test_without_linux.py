"""What host/ answers on a system that lacks what Linux has: no locks, no limits, no users, and copies."""

import errno
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import errno, mmap, os, sys
for name in ("fcntl", "resource", "grp", "pwd"):
    sys.modules[name] = None
for name in ("geteuid", "uname", "eventfd", "RWF_NOWAIT", "O_PATH", "O_NOCTTY"):
    delattr(os, name)
class Mmap: ...
mmap.mmap = Mmap
del mmap.MAP_POPULATE
from vbnfs.host import cached_open, descriptors, identity, limits, locks, mapping
with open(sys.argv[1], "rb") as file:
    descriptor = file.fileno()
    for call in (
        lambda: locks.lock_file(descriptor),
        lambda: locks.set_lock(descriptor, locks.SHARED, 0, 1),
        lambda: locks.could_lock(descriptor, 0, 1),
        lambda: mapping.map_populated(descriptor, 0, 1),
        lambda: cached_open.open_cached("file", descriptor, os.O_RDONLY),
    ):
        try:
            print(call())
        except OSError as error:
            print(errno.errorcode[error.errno])
    print(mapping.read_in_memory(descriptor, 1, 0))
limits.raise_files()
print(limits.open_files(), limits.most_open_files(), limits.most_data_bytes())
print(identity.our_uid(), identity.user_name(5), identity.group_name(5), identity.members_of(5))
print(descriptors.are_left())
"""


def test_what_is_answered_where_it_is_gone(tmp_path: Path) -> None:
    """Locks, mappings, opening at once are errors that callers know; limits are unknown, users nameless."""
    (tmp_path / "file").write_bytes(b"data")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "file")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *[errno.errorcode[errno.ENOLCK]] * 3,
        errno.errorcode[errno.ENOSYS],
        errno.errorcode[errno.EAGAIN],
        "b''",
        "None None None",
        "0 user 5 5 None",
        "True",
    ]
