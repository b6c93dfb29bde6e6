"""The command line: all commands, and how each of them ends.

Results go to standard output, everything else to standard error. Exit status: 0 done; 1 understood, but not done, and
the message says why; 2 the command line, a variable or a configuration file is wrong, on this machine and any other
(`UsageError`); 130 interrupted.
"""

import builtins
import sys
import traceback
from collections import UserDict
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from vbnfs import __version__, interrupts
from vbnfs.cli import render, streams
from vbnfs.cli.examples import with_examples
from vbnfs.cli.options import EXIT_STATUS, STATUSES
from vbnfs.config.environment import is_completing
from vbnfs.errors import DemoError, MountError, UsageError, VbnfsError
from vbnfs.host.mount_call import HAS_MOUNTS
from vbnfs.suggestions import near

_MODULES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("mount", "umount", "status", "limit-rate"), "mounting"),
    "top": "watching",
    **dict.fromkeys(("versions", "diff", "urls", "verify", "digests"), "releases"),
    **dict.fromkeys(("prefetch", "pin", "unpin", "pins", "du"), "working_sets"),
    **dict.fromkeys(("sessions", "probes", "units", "tables"), "finding"),
    **dict.fromkeys(("clean", "import"), "upkeep"),
    "index": "indexing",
    "export": "sharing",
    "cite": "citing",
    "site-cache": "site_caching",
    **dict.fromkeys(("install", "uninstall", "install-helper", "install-units"), "installing"),
    **dict.fromkeys(("tree", "map"), "structures"),
    "settings": "settings",
    "doctor": "diagnosing",
    "web": "serving_web",
}


def main() -> NoReturn:
    """Run the command line; a failure is a line on standard error, and one that says where to read on.

    Only a defect has a traceback.
    """
    streams.prepare()
    try:
        _run()
    except Exception as error:
        streams.say(traceback.format_exc().rstrip())
        _fail("this is a defect of vbnfs", 1, because_of=error)


def _run() -> NoReturn:
    try:
        interrupts.raise_again()
        if is_completing():
            from vbnfs.cli.completing import register  # noqa: PLC0415 - only at a Tab

            register(cli)
        cli.main(prog_name="vbnfs", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except BrokenPipeError:  # the reader has gone, as in `vbnfs urls | head`
        streams.discard(sys.stdout)
        sys.exit(1)  # as click does
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        sys.exit(error.exit_code)
    except UsageError as error:
        _fail(render.explained(error), 2)
    except VbnfsError as error:
        _fail(render.explained(error), 1, because_of=error)
    except OSError as error:
        if error.errno not in streams.UNWRITABLE or error.filename is not None:
            raise
        streams.discard(sys.stdout)
        _fail(f"standard output: {error.strerror}", 1)
    sys.exit(0)


def _fail(message: str, status: int, *, because_of: Exception | None = None) -> NoReturn:
    """Below the message stands where `because_of` is explained."""
    lines = "\n".join(render.escape(line) for line in message.split("\n"))
    streams.say(f"vbnfs: {lines}")
    if because_of is not None:
        from vbnfs.cli.troubleshooting import where_to_read  # noqa: PLC0415 - only after failures

        if (place := where_to_read(because_of)) is not None:
            streams.say(f"vbnfs: {render.escape(place)}")
    sys.exit(status)


class _Commands(UserDict[str, Any]):
    """The commands by name. A command's module is imported when that command is used: a mount imports no others."""

    def __getitem__(self, key: str) -> click.Command:
        found: click.Command | str = super().__getitem__(key)
        if isinstance(found, click.Command):
            return found
        name = f"{key}_" if iskeyword(key) or hasattr(builtins, key) else key.replace("-", "_")
        command = with_examples(key, getattr(import_module(f"vbnfs.cli.{found}"), name))
        self[key] = command
        return command


_OF_MOUNTS: Final = frozenset({"mount", "top", "doctor", "demo", "install-helper", "install-units"})

# Words that other programs have for what vbnfs does, and its own.
_MEANT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("unmount", "eject", "detach", "stop"), "umount"),
    **dict.fromkeys(("start", "attach", "open"), "mount"),
    **dict.fromkeys(("help", "docs", "documentation"), "--help"),
    "version": "--version",
    "list": "versions",
    "ls": "versions' or, for the files, 'ls FOLDER",
    **dict.fromkeys(("fetch", "download", "get", "pull", "sync"), "prefetch"),
    **dict.fromkeys(("keep", "hold", "lock"), "pin"),
    **dict.fromkeys(("unkeep", "unlock"), "unpin"),
    **dict.fromkeys(("usage", "df"), "du"),
    **dict.fromkeys(("info", "stat", "ps"), "status"),
    **dict.fromkeys(("watch", "monitor", "live", "iotop", "htop"), "top"),
    **dict.fromkeys(("log", "logs"), "status', which says where the log is, or 'vbnfs settings"),
    **dict.fromkeys(("config", "options"), "settings"),
    "compare": "diff",
    **dict.fromkeys(("outline", "structure", "h5ls", "h5dump", "show"), "tree"),
    **dict.fromkeys(("find", "search", "query"), "sessions --query"),
    **dict.fromkeys(("columns", "values"), "tables"),
    "channels": "tables channels",
    "setup": "install",
    **dict.fromkeys(("completion", "completions", "man"), "install"),
    "cache": "clean --dry-run', which says what the cache takes, or 'vbnfs clean",
    **dict.fromkeys(("free", "rm", "remove", "delete"), "clean PATH"),
    **dict.fromkeys(("evict", "prune", "gc"), "clean"),
    "convert": "clean --convert",
    **dict.fromkeys(("copy", "cp", "share"), "export"),
    "forget": "import --forget",
    **dict.fromkeys(("bwlimit", "throttle", "limit"), "limit-rate"),
    **dict.fromkeys(("check", "hash", "checksum"), "verify"),
    **dict.fromkeys(("diagnose", "diagnostics", "health", "report", "test"), "doctor"),
}


_FIRST_PAGE: Final = "quick-start.md"  # the others are beside it


class _Vbnfs(click.Group):
    """The commands; for a word that is none of them it suggests one."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """`--help`, which its own text does not list: the commands need the lines of a screen."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.hidden = True
        return option

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit statuses, and where the pages are that helps name, `docs/...`."""
        from vbnfs.host.documents import installed_page  # noqa: PLC0415 - only for this help

        super().format_epilog(ctx, formatter)
        if (page := installed_page(_FIRST_PAGE)) is not None:
            formatter.write(f"  Documentation: {page}, and the pages beside it.\n")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in _MEANT:
            ctx.fail(f"No such command '{args[0]}'. Did you mean 'vbnfs {_MEANT[args[0]]}'?")
        if args[0] not in self.commands and (nearest := near(args[0], self.list_commands(ctx))):
            meant = " or ".join(f"'vbnfs {name}'" for name in nearest)
            ctx.fail(f"No such command '{args[0]}'. Did you mean {meant}?")
        if args[0] in _OF_MOUNTS and not HAS_MOUNTS:
            raise MountError(
                f"{args[0]}: mounts are made on Linux alone: the other commands work here, and 'import vbnfs' in"
                " Python reads the same files"
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Vbnfs,
    commands=_Commands(_MODULES),
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A dataset on S3 as a folder: 'vbnfs mount ~/vbn', 'vbnfs umount ~/vbn'.",
    epilog=STATUSES,
)
@click.version_option(__version__, prog_name="vbnfs", hidden=True)  # as --help is
def cli() -> None:
    """All commands."""


@cli.command(epilog=EXIT_STATUS)
@click.argument("directory", type=Path, required=False)
@click.option("--keep", is_flag=True, help="Leave the server and the mount running until Ctrl-C.")
@click.option("--web", "is_page", is_flag=True, help="Show it in a browser, too, until Ctrl-C.")
def demo(directory: Path | None, keep: bool, is_page: bool) -> None:
    """Show all of it on a small release on this machine.

    Starts a real S3 server, loads it with a small genuine release (four versions, 370 MB), mounts that and gives a
    tour. Works in DIRECTORY (default: a temporary folder that is removed at the end).
    """
    try:
        from vbnfs.demo.tour import run_demo  # noqa: PLC0415 - the demo's libraries are an extra
    except ModuleNotFoundError as error:
        raise DemoError(f"{error.name} is not installed: pip install 'vbnfs[demo]'") from error
    if is_page:
        import vbnfs.cli.web  # noqa: PLC0415, F401 - an extra, whose lack is said before a release is made
    run_demo(directory, keep=keep, is_page=is_page)


with_examples("demo", demo)
