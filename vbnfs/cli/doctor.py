"""What `vbnfs doctor` does: an examination, its findings in lines or as JSON, and the report."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from vbnfs import interrupts
from vbnfs.cli import render
from vbnfs.cli.options import echo_note, settings_of
from vbnfs.cli.running import run
from vbnfs.cli.troubleshooting import place_of, section_of
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.doctor import examination
from vbnfs.doctor.examination import Examination, Order, Result
from vbnfs.doctor.findings import Finding, Level
from vbnfs.doctor.report import report_text
from vbnfs.errors import DoctorError, UsageError
from vbnfs.host.atomic import output_file

_STYLES: Final[Mapping[Level, str]] = {
    Level.GOOD: "green",
    Level.NOTE: "yellow",
    Level.LEFT_OUT: "dim",
    Level.TO_DO: "bold red",
}
_LEVEL_COLUMNS, _CHECK_COLUMNS = 10, 14
_FOR_OWNERS_ALONE: Final = 0o600


def order_of(options: dict[str, Any], *, is_measured: bool) -> Order:
    """What is to be examined. Raises `UsageError` where the command line itself is wrong.

    What is wrong in variables and files is a finding; the rest then goes by the command line and the defaults.
    """
    try:
        return Order(config=settings_of(dict(options)).config, is_measured=is_measured)
    except UsageError as refusal:
        try:
            config = _without_files(options)
        except UsageError:
            raise refusal from None
        return Order(config=config, refusal=refusal, is_measured=is_measured)


def _without_files(options: Mapping[str, Any]) -> Config:
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}
    given = {name: text for name, text in texts.items() if text is not None and name != "config_file"}
    return load_config(command_line=given, environ={}, config_file=Path(os.devnull))


def examine(order: Order) -> Examination:
    """Carry it out. A user who waits for it longer than usual reads for what."""

    def say_waiting(names: Sequence[str]) -> None:
        echo_note(f"still waiting for answers: {', '.join(names)}")

    with interrupts.at_sigterm_too():  # the trial mount does not stay
        return run(partial(examination.examine, order, say_waiting=say_waiting))


def print_findings(found: Examination) -> None:
    """A line for each finding; below what needs doing, the remedy and where to read on."""
    render.print_spans(line for result in found.results for line in _lines(result))
    if not found.to_do:
        render.print_line("nothing needs doing")


def _lines(result: Result) -> Iterator[list[render.Span]]:
    finding = result.finding
    text = render.escape(finding.text)
    yield [
        (finding.level.value.ljust(_LEVEL_COLUMNS), _STYLES[finding.level]),
        (f"{result.check.ljust(_CHECK_COLUMNS)}{text}", ""),
    ]
    indent = " " * (_LEVEL_COLUMNS + _CHECK_COLUMNS)
    if finding.level is Level.TO_DO:
        if finding.remedy:
            yield [(f"{indent}remedy: {render.escape(finding.remedy)}", "")]
        if (place := _where_to_read(finding)) is not None:
            yield [(f"{indent}see {render.escape(place)}", "dim")]


def _where_to_read(finding: Finding) -> str | None:
    if finding.section:
        return place_of(finding.section)
    if finding.error is None or isinstance(finding.error, UsageError):  # the message says which and what is wanted
        return None
    return place_of(section_of(finding.error))


def print_json(found: Examination) -> None:
    """The same as JSON."""
    render.print_json({"needs_doing": bool(found.to_do), "findings": rows(found)})


def rows(found: Examination) -> list[dict[str, str | None]]:
    """The findings as values, in the order of the checks."""
    return [
        {
            "check": one.check,
            "level": one.finding.level.value,
            "text": one.finding.text,
            "remedy": one.finding.remedy or None,
            "see": _where_to_read(one.finding) if one.finding.level is Level.TO_DO else None,
        }
        for one in found.results
    ]


def rows_without_fetching(config: Config) -> list[dict[str, str | None]]:
    """The same of an examination that measures no throughput, in a thread of a process that goes on."""
    order = Order(config=config, is_measured=False)
    found = trio.run(examination.examine, order)
    return [one for one in rows(found) if one["check"] != "throughput"]


def write_report(order: Order, found: Examination, path: Path) -> None:
    """Write a text for a person who is to help. Raises `DoctorError`."""
    text = report_text(order, found)
    try:
        with output_file(path, mode=_FOR_OWNERS_ALONE) as out:
            out.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise DoctorError(f"{path}: the report cannot be written: {error.strerror}") from error


def check(found: Examination) -> None:
    """Raise `DoctorError` where something needs doing."""
    names = found.to_do
    if names:
        things = "1 thing needs" if len(names) == 1 else f"{len(names)} things need"
        raise DoctorError(f"{things} doing here: {', '.join(names)}")
