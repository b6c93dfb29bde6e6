"""`vbnfs web`."""

import re
from pathlib import Path
from typing import Any, Final

import click

from vbnfs.cli.options import EXIT_STATUS, ONLY_OF_A_MOUNT, log_to_terminal, settings, settings_of

_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]")


def _checked(context: click.Context, parameter: click.Parameter, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Names as browsers send them: RFC 9110, 7.2."""
    for host in hosts:
        if _NAME.fullmatch(host) is None:
            raise click.BadParameter(f"{host!r}: give a name alone, as hub.example.org; every port of it counts")
    return hosts


@click.command(epilog=EXIT_STATUS)
@click.option("--port", type=click.IntRange(0, 65535), default=8791, show_default=True, help="0: any that is free.")
@click.option("--open", "is_opened", is_flag=True, help="Open it in a browser.")
@click.option(
    "--allow",
    "hosts",
    multiple=True,
    callback=_checked,
    metavar="HOST",
    help="A name by which it may be asked, as of a proxy.",
)
@click.option("--any-user", is_flag=True, help="Programs of other users may ask, as a proxy that is not yours.")
@click.option("--address-file", type=Path, metavar="FILE", help="Write the address into a file rather than print it.")
@settings(*ONLY_OF_A_MOUNT, shown=("dataset", "cache_dir", "offline", "config"))
def web(
    port: int, is_opened: bool, hosts: tuple[str, ...], any_user: bool, address_file: Path | None, **options: Any
) -> None:
    """Show the dataset and this machine in a browser.

    It is for you alone, on this machine, and the address has a token that lets you in. See docs/web.md.
    """
    from vbnfs.cli.web import run  # noqa: PLC0415 - an extra

    loaded = settings_of(options)
    log_to_terminal("error")
    run(loaded, port=port, is_opened=is_opened, address_file=address_file, hosts=hosts, any_user=any_user)
