"""`vbnfs doctor`: what it is asked, how the answers are shown."""

from pathlib import Path
from typing import Any, Final

import click

from vbnfs.cli.options import echo_note, log_to_terminal, settings

_EXIT_STATUS: Final = (
    "\b\nExit status: 0 nothing needs doing, 1 something does, 2 wrong usage.\n"
    "'vbnfs settings' shows all settings, 'vbnfs settings --help' their options."
)


@click.command(epilog=_EXIT_STATUS)
@click.option("--report", type=Path, metavar="FILE", help="Write what was found to a text that can be sent.")
@click.option("--no-throughput", is_flag=True, help="Do not fetch 8 MiB to see how fast that is.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@settings(shown=("dataset", "cache_dir", "offline", "config"))
def doctor(report: Path | None, no_throughput: bool, as_json: bool, **options: Any) -> None:
    """Find what keeps vbnfs from working well here.

    FUSE, the kernel, the cache and its disk, the network, the mounts that there are. What needs doing is listed with
    its remedy. The report has no user names, paths, hosts or keys. See docs/doctor.md.
    """
    from vbnfs.cli import doctor as work  # noqa: PLC0415

    order = work.order_of(options, is_measured=not no_throughput)
    log_to_terminal("critical")  # what matters is written below
    found = work.examine(order)
    (work.print_json if as_json else work.print_findings)(found)
    if report is not None:
        work.write_report(order, found, report)
        echo_note(
            f"{report} has these findings, and no user names, paths, hosts, addresses or keys; read it before you"
            " send it"
        )
    work.check(found)
