"""`vbnfs sessions`, `probes`, `units`, `tables`: what they are asked, and how the answers are shown."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vbnfs.cli.options import EXIT_STATUS, ONLY_OF_A_MOUNT, echo_note, run_on_versions, settings
from vbnfs.cli.render import size
from vbnfs.errors import UsageError
from vbnfs.host.private import users_umask
from vbnfs.tables.names import KNOWN

if TYPE_CHECKING:
    from vbnfs.access.finding import Asked
    from vbnfs.cli.found_rows import Form
    from vbnfs.dataset.manifest import DataFile
    from vbnfs.tables.query import Condition

_ALL_COLUMNS: Final = "all"
_Command = Callable[..., Any]


def _asks(own: str | None) -> Callable[[_Command], _Command]:
    """Give a command on rows its options. `own` is the table that it is about, as options name it."""
    first, *others = [name for name in KNOWN if name != own]

    def decorate(command: _Command) -> _Command:
        command = settings(*ONLY_OF_A_MOUNT, shown=("dataset_version",))(command)
        decorators = [
            click.option("--query", metavar="QUERY", help="Rows for which this holds."),
            click.option(
                f"--having-{first}",
                metavar="QUERY",
                help=f"Rows with {first} that match; -{', -'.join(others)}: likewise.",
            ),
            *(
                click.option(f"--having-{name}", metavar="QUERY", hidden=True, help=f"Rows with {name} that match.")
                for name in others
            ),
            click.option(
                "--having",
                "having_any",
                metavar="TABLE QUERY",
                nargs=2,
                multiple=True,
                hidden=True,
                help="Rows with rows of TABLE that match.",
            ),
            click.option("--columns", metavar="NAME,...", help="Show these columns; 'all': every one."),
            click.option("--sort", metavar="NAME,...", help="Sort by these; -NAME: from large to small."),
            click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most so many rows."),
            click.option("--csv", "as_csv", is_flag=True, help="As CSV."),
            click.option("--json", "as_json", is_flag=True, help="As JSON."),
            click.option("--parquet", type=Path, metavar="FILE", help="Into FILE, as Parquet."),
        ]
        for option in reversed(decorators):
            command = option(command)
        return command

    return decorate


@click.command(epilog=EXIT_STATUS)
@_asks("sessions")
def sessions(**options: Any) -> None:
    """Find sessions, and show what of each is cached.

    QUERY is a condition on columns, which 'vbnfs tables' lists; docs/finding.md has the language.

    vbnfs sessions --having-units "structure_acronym == 'VISp' and snr > 2"
    """
    _show_rows("sessions", options)


@click.command(epilog=EXIT_STATUS)
@_asks("probes")
def probes(**options: Any) -> None:
    """Find probes, and show what of their LFP is cached.

    QUERY is a condition on columns, which 'vbnfs tables' lists; docs/finding.md has the language.

    vbnfs probes --query "has_lfp_data" --having-sessions "sex == 'F'"
    """
    _show_rows("probes", options)


@click.command(epilog=EXIT_STATUS)
@_asks("units")
def units(**options: Any) -> None:
    """Find units.

    QUERY is a condition on columns, which 'vbnfs tables' lists; docs/finding.md has the language.

    vbnfs units --query "snr > 2" --having-sessions "sex == 'F'"
    """
    _show_rows("units", options)


@click.command(epilog=EXIT_STATUS)
@click.argument("name", metavar="[TABLE|COLUMN]", required=False)
@_asks(None)
def tables(name: str | None, **options: Any) -> None:
    """List tables, rows of a table, or values of a column.

    Without an argument it lists the tables of the newest version, and their columns.

    vbnfs tables experience_level
    """
    from vbnfs.cli import find  # noqa: PLC0415

    asked, form = _taken(options)
    found = run_on_versions(options, find.find_by_name, name, asked, note=echo_note, progress=Progress())
    find.show(found, asked, form, note=echo_note)


def _show_rows(table: str, options: dict[str, Any]) -> None:
    from vbnfs.cli import find  # noqa: PLC0415

    asked, form = _taken(options)
    found = run_on_versions(options, find.find_rows, table, asked, note=echo_note, progress=Progress())
    find.show(found, asked, form, note=echo_note)


class Progress:
    """Shows how far a large table is read: a bar on a terminal, elsewhere a line at its beginning."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, file: "DataFile", done_bytes: int, size_bytes: int) -> None:
        """So much of a file is read."""
        path = "/".join(file.path)
        if self._bar is None:
            is_hidden = not sys.stderr.isatty()
            if is_hidden:
                echo_note(f"reading {path}, {size(size_bytes)}")
            self._bar = click.progressbar(length=size_bytes, label=path, file=sys.stderr, hidden=is_hidden)
        self._bar.update(done_bytes - self._bar.pos)
        if done_bytes == size_bytes:
            self._bar.render_finish()
            self._bar = None


def _taken(options: dict[str, Any]) -> "tuple[Asked, Form]":
    """What is asked, and in which form the answer is wanted. They are taken out of `options`."""
    from vbnfs.access.finding import Asked  # noqa: PLC0415 - imports pandas
    from vbnfs.cli.found_rows import Form  # noqa: PLC0415

    given = {name: (f"--having-{name}", options.pop(f"having_{name}", None)) for name in KNOWN}
    given |= {table: (f"--having {table}", text) for table, text in options.pop("having_any")}
    having = {name: _parsed(text, option) for name, (option, text) in given.items()}
    columns = _names(options, "columns")
    asked = Asked(
        query=_parsed(options.pop("query"), "--query"),
        having={name: condition for name, condition in having.items() if condition is not None},
        sort=_names(options, "sort") or (),
        columns=None if columns == [_ALL_COLUMNS] else columns,
        limit=options.pop("limit"),
    )
    mode = 0o666 & ~users_umask()  # as the user has it: for the cache, commands set another
    form = Form(options.pop("as_csv"), options.pop("as_json"), options.pop("parquet"), columns is not None, mode)
    if sum((form.is_csv, form.is_json, form.parquet is not None)) > 1:
        raise UsageError("--csv, --json and --parquet exclude each other")
    return asked, form


def _parsed(text: str | None, option: str) -> "Condition | None":
    """The query that an option has; None where it is not given."""
    from vbnfs.tables.query import QueryError, parse_query  # noqa: PLC0415

    try:
        return None if text is None else parse_query(text)
    except QueryError as error:
        raise QueryError(f"{option}: {error}") from None


def _names(options: dict[str, Any], option: str) -> list[str] | None:
    """The names in an option's value, which is taken out of `options`; None where it is not given."""
    text: str | None = options.pop(option)
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if "" in names or "-" in names:
        raise UsageError(f"--{option} {text}: names of columns, with commas between them")
    return names
