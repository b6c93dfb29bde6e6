"""`python -m benchmarks.nfs [--kvm] [--only ROUND]`: status 1 if anything is not as docs/shared-cache.md says."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.nfs import rounds

NAMES = ("two-hosts", "a-host-dies", "the-server-restarts", "the-disk-is-full", "two-users")


def main() -> None:
    """Try what is asked for, or everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NAMES, action="append", help="this round; may be repeated")
    parser.add_argument("--kvm", action="store_true", help="by the processor's virtualization: much faster")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vbnfs-nfs-") as work:
        sys.exit(1 if rounds.run(Path(work), arguments.only or NAMES, has_kvm=arguments.kvm) else 0)


if __name__ == "__main__":
    main()
