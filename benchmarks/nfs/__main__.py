"""Try one cache folder for two hosts on a kernel's NFS server: script/scale --nfs."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.nfs import rounds
from benchmarks.nfs.machines import KERNEL
from tests.mount_namespaces import WITHOUT_MOUNTS

_PROGRAMS: Final = (
    KERNEL,
    "unshare",
    "ip",
    "tc",
    "modprobe",
    "mke2fs",
    "mount.nfs",
    "rpc.nfsd",
    "rpc.mountd",
    "exportfs",
)
# A network of its own, and all processes end with the first one.
_WITHIN: Final = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", *WITHOUT_MOUNTS)


def main() -> None:
    """Try what is asked for, or everything. Status 1 if anything is not as docs/shared-cache.md says."""
    parser = argparse.ArgumentParser(prog="script/scale --nfs", description=__doc__)
    parser.add_argument("--only", choices=rounds.ROUNDS, action="append", help="this round; may be repeated")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if missing := _missing():
        sys.exit(f"script/scale --nfs: it lacks {', '.join(missing)}; 'script/setup nfs' installs what Debian has")
    if not arguments.within:
        again = (*_WITHIN, sys.executable, "-m", "benchmarks.nfs", "--within", *sys.argv[1:])
        os.execvp(again[0], again)
    with tempfile.TemporaryDirectory(prefix="vbnfs-nfs-") as work:
        sys.exit(1 if rounds.run(Path(work), arguments.only or list(rounds.ROUNDS)) else 0)


def _missing() -> list[str]:
    """What this needs and this machine does not have."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not Path("/dev/net/tun").exists():
        missing.append("/dev/net/tun")
    if os.geteuid() != 0:
        missing.append("root")
    return missing


if __name__ == "__main__":
    main()
