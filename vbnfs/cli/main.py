"""The command line: all commands, and how each of them ends.

Results go to standard output, everything else to standard error. Exit status: 0 done; 1 it could not be done, the
message says why; 2 wrong usage.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from vbnfs import __version__
from vbnfs.cli import mounting, releases, render, upkeep
from vbnfs.cli.options import EXIT_STATUS
from vbnfs.errors import DemoError, UsageError, VbnfsError, told


def main() -> NoReturn:
    """Run the command line; failures are told in one line, without a traceback."""
    try:
        cli.main(prog_name="vbnfs", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except BrokenPipeError:  # nobody reads on, as in `vbnfs urls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)  # as click does
    except click.Abort:
        _fail("interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UsageError as error:
        _fail(str(error), 2)
    except VbnfsError as error:
        _fail(told(error), 1)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    lines = "\n".join(render.printable(line) for line in message.split("\n"))
    click.echo(f"vbnfs: {lines}", err=True)
    sys.exit(status)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_STATUS)
@click.version_option(__version__, prog_name="vbnfs")
def cli() -> None:
    """A versioned scientific dataset on S3 as a local, read-only file system."""


for _command in (
    *(mounting.mount, mounting.umount, mounting.status),
    *(releases.versions, releases.diff, releases.urls, releases.verify),
    *(upkeep.clean, upkeep.install_helper, upkeep.install_units),
):
    cli.add_command(_command)


@cli.command(epilog=EXIT_STATUS)
@click.argument("directory", type=Path, required=False)
@click.option("--keep", is_flag=True, help="Leave the server and the mount running until Ctrl-C.")
def demo(directory: Path | None, keep: bool) -> None:
    """Show all of it on a small genuine release, served by a real S3 server on this machine.

    Works in DIRECTORY (default: a temporary folder that is removed at the end).
    """
    try:
        from vbnfs.demo.tour import run_demo  # noqa: PLC0415 - the demo's libraries are an extra
    except ModuleNotFoundError as error:
        raise DemoError(f"{error.name} is not installed: pip install 'vbnfs[demo]'") from error
    run_demo(directory, keep=keep)
