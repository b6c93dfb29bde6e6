"""Output for a terminal, and as JSON. Names from outside are escaped before they are shown."""

import io
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

from vbnfs.config.environment import foreign_home
from vbnfs.errors import VbnfsError, with_remedy
from vbnfs.rate import rate_text

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS: Final[Mapping[bool, Literal["auto"] | None]] = {True: "auto", False: None}  # by whether it is a terminal
_ROUTE: Final = {"proxy": "proxy", "trusted": "certificates"}  # a line, and what of the status it shows
_ENDLESS: Final = 100_000  # columns, or lines


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
        table.add_column(column.strip(), justify="right" if column.endswith(" ") else "left", no_wrap=True)
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
    if any("\udc80" <= c <= "\udcff" for c in text):  # bytes that the locale's encoding cannot decode
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def explained(error: VbnfsError) -> str:
    """What went wrong and the remedy; if a HOME of another user is the cause, that, too."""
    message, home = with_remedy(error), foreign_home()
    if home is None or home == "/" or f"{home}/" not in message:
        return message
    return f"{message}; HOME is {home}, which is not yours: 'su -' or 'sudo -i' sets your own"


def size(size_bytes: int | None) -> str:
    """Bytes in units of 1024, as --cache-size takes them: 1.2 GiB; '-' if they are unknown."""
    if size_bytes is None:
        return "-"
    unit, suffix = _unit(size_bytes, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
    return f"{size_bytes / unit:.{0 if unit == 1 else 1}f} {suffix}"


def files(count: int) -> str:
    """How many files: 1 file, 18 files."""
    return f"{count:,} file{'' if count == 1 else 's'}"


def lfp_left_out(count: int, size_bytes: int) -> str | None:
    """That files are left out because they are LFP; None if there are none."""
    if not count:
        return None
    return f"LFP is left out: {files(count)}, {size(size_bytes)}; '--lfp yes' takes it too"


def short_size(size_bytes: int) -> str:
    """Bytes in units of 1024 as `ls -h` writes them, at most five characters: 1.2G, 188M, 512."""
    unit, suffix = _unit(size_bytes, ["", "K", "M", "G", "T", "P"])
    value = size_bytes / unit
    return f"{value:.{1 if suffix and value < 9.95 else 0}f}{suffix}"


def _unit(size_bytes: int, suffixes: list[str]) -> tuple[int, str]:
    from rich.filesize import pick_unit_and_suffix  # noqa: PLC0415 - see print_table

    return pick_unit_and_suffix(size_bytes, suffixes, 1024)


def print_status(status: Mapping[str, Any]) -> None:
    """One mount's status, a line for each fact; of another user's mount, of which less is known, too."""
    lines = _dataset_lines(status)
    lines |= _owners_lines(status) if "metrics" in status else _readers_lines(status)
    if problem := status.get("server_problem"):
        lines["problem"] = str(problem)
    if problem := status.get("cache_problem"):
        lines["not kept"] = str(problem)
    if newer := status.get("newer_version"):
        top = status["default_version"]
        lines["newer"] = f"{newer} is there; mount again to have it at the top ('vbnfs diff {top} {newer}' compares)"
    lines |= _passthrough_lines(status.get("passthrough"))
    lines |= _record_lines(status.get("record"))
    for number, reason in enumerate(status["refused"]):
        lines[f"refused{'' if number == 0 else number + 1}"] = reason
    if error := status.get("last_error"):
        lines |= {"last error": error, **_since_error_lines(status)}
    sys.stdout.write(escape(status["mountpoint"]) + "\n")
    for name, text in lines.items():
        sys.stdout.write(f"  {name:<11} {escape(text)}\n")


def _since_error_lines(status: Mapping[str, Any]) -> dict[str, str]:
    """When the last error was, and what was read since."""
    if (time := status.get("last_error_time")) is None:  # a daemon of an older vbnfs does not report it
        return {}
    when, now = datetime.fromisoformat(time).astimezone(), datetime.now(UTC)
    read, received = (status.get(f"{name}_bytes_since_error") or 0 for name in ("read", "received"))
    since = f"{size(read)} were read, {size(received)} of that from S3" if read else "nothing was read"
    return {"it was": f"{ago((now - when).total_seconds())}, at {when:%Y-%m-%d %H:%M:%S}; since then {since}"}


def ago(seconds: float) -> str:
    """How long ago something was, as people say it: 12 minutes ago."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if (count := int(seconds // unit)) > 0:
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"


def _dataset_lines(status: Mapping[str, Any]) -> dict[str, str]:
    dataset = status.get("dataset")  # a daemon of an older vbnfs does not report it
    return {
        **({"dataset": str(dataset)} if dataset else {}),
        "versions": f"{', '.join(status['versions'])}  (at the top: {status['default_version']})",
        "from": f"s3://{status['bucket']}/{status['project']} by {status['endpoint_url'] or 'AWS'}"
        + _offline_text(status),
    }


def _readers_lines(status: Mapping[str, Any]) -> dict[str, str]:
    return {
        "mounted by": f"{status['mounted_by']}, whose cache it reads: 'vbnfs versions' counts your own",
        "cache": f"{size(status['cache_usage_bytes'])} of {size(status['cache_size_bytes'])}",
        "daemon": f"pid {status['pid']}, vbnfs {status['vbnfs_version']}",
    }


def _owners_lines(status: Mapping[str, Any]) -> dict[str, str]:
    counts = status["metrics"]
    lines = {
        "cache": f"{status['cache_dir']}  {size(status['cache_usage_bytes'])} of {size(status['cache_size_bytes'])}",
        "read": f"{size(counts['read_bytes'])} by programs, {size(counts['received_bytes'])} from S3 in"
        f" {counts['range_requests']:,} requests",
        "daemon": f"pid {status['pid']}, vbnfs {status['vbnfs_version']}",
        "log": status["log_file"] or "on the daemon's terminal",
    }
    if (reserve := status.get("cache_reserve_bytes")) is not None:
        lines["cache"] += (
            f"; {size(status.get('cache_free_bytes'))} free on its disk, of which it leaves {size(reserve)}"
        )
    lines |= _limit_lines(status.get("limit_rate"))
    if also := status.get("cache_also"):
        lines["also read"] = ", ".join(also)
    lines |= _route_lines(status)
    if mirror := status.get("mirror"):
        lines["mirror"] = f"{mirror}  {counts.get('mirror_blocks', 0):,} blocks"
    if wrong := counts.get("mismatched_files"):
        lines["wrong"] = (
            f"{files(wrong)} without the manifest's hash, deleted here; the log says which: read them again"
        )
    return lines


def _limit_lines(report: Mapping[str, Any] | None) -> dict[str, str]:
    """How much S3 may send in a second, and what that holds back now; nothing where it may send any amount."""
    if report is None or report["rate_bytes"] is None:  # None: a daemon of an older vbnfs does not report it
        return {}
    whose = "all processes on this cache together" if report["is_shared"] else "this process alone"
    text = f"{rate_text(report['rate_bytes'])} for {whose}"
    held = {"reads": report["waiting_reads"], "other fetches": report["waiting_others"]}
    if words := [f"{count:,} {name}" for name, count in held.items() if count]:
        text += f"; held back now: {', '.join(words)}"
    return {"limit rate": text}


def _route_lines(status: Mapping[str, Any]) -> dict[str, str]:
    """By which proxy the bucket is reached, and whose certificates are trusted."""
    return {label: status[name] for label, name in _ROUTE.items() if status.get(name)}


def _passthrough_lines(report: Mapping[str, Any] | None) -> dict[str, str]:
    """Whether the kernel reads files by itself, or why not, and who keeps it from one."""
    if report is None:  # nor this
        return {}
    if report["reason"] is not None:
        return {"passthrough": f"no file is read by the kernel itself: {report['reason']}"}
    lines = {"passthrough": f"on; open now and read by the kernel itself: {files(report['open_files'])}"}
    for number, one in enumerate(report["old_handles"]):
        who = one["program"] or "a program that is gone"
        text = f"{one['file']}: {who} (pid {one['pid']}) has it open from before it was checked; close it there"
        lines[f"old handle{'' if number == 0 else number + 1}"] = text
    return lines


def _record_lines(report: Mapping[str, Any] | None) -> dict[str, str]:
    """Where what is read is written down, and what keeps it from that."""
    if report is None:
        return {}
    problem = f"; it cannot be written now: {report['problem']}" if report["problem"] else ""
    lost = f"; {report['lost_lines']:,} lines did not find room in memory meanwhile" if report["lost_lines"] else ""
    return {"record": f"{report['file']}{problem}{lost}"}


def _offline_text(status: Mapping[str, Any]) -> str:
    if status.get("is_offline_wanted"):
        return " (offline, as --offline asks for: working from what is kept)"
    return " (not reached: working from what is kept)" if status["is_offline"] else ""
