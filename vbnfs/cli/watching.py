"""`vbnfs top`."""

from pathlib import Path
from typing import Final

import click

from vbnfs.cli.mounting import mounts_at
from vbnfs.cli.options import EXIT_STATUS
from vbnfs.errors import MountError

_LEAST_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 3600.0


@click.command(epilog=EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option("--once", is_flag=True, help="Show it once, and end.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, a line for each mount and time.")
@click.option(
    "--interval",
    type=click.FloatRange(_LEAST_SECONDS, _MOST_SECONDS),
    metavar="SECONDS",
    default=1.0,
    help="How often to ask, and what rates are of.  [default: 1]",
)
def top(mountpoint: Path | None, once: bool, as_json: bool, interval: float) -> None:
    """Watch what programs read, and what comes from S3.

    MOUNTPOINT is the folder of one mount. Without it all of yours are shown, and what commands of yours fetch without
    a mount. q or Ctrl-C ends. Where standard output is no terminal, it is written as lines.
    """
    from vbnfs.access.running_fetches import running_fetches  # noqa: PLC0415 - only what a command needs
    from vbnfs.cli.top import watch  # noqa: PLC0415

    entries = mounts_at(mountpoint)
    if mountpoint is not None:
        watch(entries, interval, is_once=once, as_json=as_json)
        return
    if not entries and not running_fetches():
        raise MountError("no mount of yours is there to be watched; 'vbnfs mount ~/vbn' mounts a dataset")
    watch(entries, interval, is_once=once, as_json=as_json, fetches=running_fetches)
