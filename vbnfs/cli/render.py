"""Output for a terminal, and as JSON. Names from outside are escaped before they are shown."""

import io
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

from vbnfs import amounts
from vbnfs.config.environment import foreign_home
from vbnfs.errors import VbnfsError, with_remedy

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS: Final[Mapping[bool, Literal["auto"] | None]] = {True: "auto", False: None}  # by whether it is a terminal
_ENDLESS: Final = 100_000  # columns, or lines
_UNDECODED: Final = re.compile("[\udc80-\udcff]+")  # bytes that the locale's encoding cannot decode

size, short_size, files = amounts.size, amounts.short_size, amounts.files


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def print_json_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON array on standard output, a line for each row: there may be hundreds of thousands."""
    before = "["
    for row in rows:
        sys.stdout.write(f"{before}\n{json.dumps(row)}")
        before = ","
    sys.stdout.write("[]\n" if before == "[" else "\n]\n")


def print_line(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(escape(text) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output; columns whose name ends in a blank are numbers.

    A row is one line, whatever its length: the terminal wraps it, and paths stay whole.
    """
    from rich.console import Console  # noqa: PLC0415 - takes as long as a tenth of a mount
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(escape(column.strip()), justify="right" if column.endswith(" ") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    lines = io.StringIO()
    is_terminal = sys.stdout.isatty()
    console = Console(
        file=lines,
        width=_ENDLESS,
        height=_ENDLESS,  # with the width alone rich takes a dumb terminal for one of 80 columns
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=is_terminal,
        color_system="auto" if is_terminal else None,
    )
    console.print(table)
    sys.stdout.writelines(line.rstrip() + "\n" for line in lines.getvalue().splitlines())


Span: TypeAlias = tuple[str, str]  # a text, and its style in rich's words


def print_spans(lines: Iterable[Sequence[Span]]) -> None:
    """Lines of texts with styles on standard output; plain where it shows no colours. Texts are escaped already."""
    from rich.text import Text  # noqa: PLC0415 - see print_table

    console = _console(sys.stdout)
    for spans in lines:
        console.print(Text.assemble(*spans), soft_wrap=True)


def has_colours() -> bool:
    """Whether standard output is a terminal of 256 colours at least, and the user wants them (no-color.org)."""
    console = _console(sys.stdout)
    return console.color_system in {"256", "truecolor"} and not console.no_color


def is_screen() -> bool:
    """Whether standard output is a terminal on which text can be placed: none of TERM=dumb."""
    return sys.stdout.isatty() and not _console(sys.stdout).is_dumb_terminal


def terminal_width() -> int | None:
    """How many columns standard output has; None where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _console(file: TextIO) -> "Console":
    from rich.console import Console  # noqa: PLC0415 - see print_table

    is_terminal = sys.stdout.isatty()
    return Console(
        file=file,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=is_terminal,
        color_system=_COLOURS[is_terminal],
    )


def error_console() -> "Console":
    """The terminal that standard error is, for a bar."""
    from rich.console import Console  # noqa: PLC0415 - see print_table

    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def escape(text: str) -> str:
    """Control characters as escapes, so that a name cannot drive the terminal; UTF-8 as text in any locale."""
    text = _UNDECODED.sub(_as_utf_8, text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _as_utf_8(found: re.Match[str]) -> str:
    return found[0].encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def explained(error: VbnfsError) -> str:
    """What went wrong and the remedy; if a HOME of another user is the cause, that, too."""
    message, home = with_remedy(error), foreign_home()
    if home is None or home == "/" or f"{home}/" not in message:
        return message
    return f"{message}; HOME is {home}, which is not yours: 'su -' or 'sudo -i' sets your own"


def lfp_left_out(count: int, size_bytes: int) -> str | None:
    """That files are left out because they are LFP; None if there are none."""
    if not count:
        return None
    return f"LFP is left out: {files(count)}, {size(size_bytes)}; '--lfp yes' takes it too"


def ago(seconds: float) -> str:
    """How long ago something was, as people say it: 12 minutes ago."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if (count := int(seconds // unit)) > 0:
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"
