"""`vbnfs export`: what it is asked, and how the answer is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vbnfs.cli import render
from vbnfs.cli.options import EXIT_STATUS, echo_note, log_to_terminal, settings
from vbnfs.cli.working_sets import HIDDEN, asked, choosing
from vbnfs.errors import ExportError
from vbnfs.host.private import users_umask

if TYPE_CHECKING:
    from vbnfs.cli.export_findings import Exported, Plan
    from vbnfs.cli.file_finding import Finding


@click.command(epilog=EXIT_STATUS)
@click.argument("folder", metavar="DIR", type=Path)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@choosing("Show what would be copied and fetched, and the room.")
@click.option("--link", is_flag=True, help="Copy no bytes: share them (reflink), or link to a mount.")
@settings(*HIDDEN, shown=("dataset_version", "offline"))
def export(folder: Path, paths: tuple[Path, ...], is_trial: bool, as_json: bool, link: bool, **options: Any) -> None:
    """Copy sessions into a folder that needs no network.

    AllenSDK's from_local_cache takes DIR as it is, and 'vbnfs import DIR' into a cache elsewhere. The tables are
    always in it, LFP only if asked for. After Ctrl-C the same command goes on. See docs/sharing-data.md.
    """
    from vbnfs.cli import export_findings, exporting  # noqa: PLC0415
    from vbnfs.cli.progress import Bar, going_on_later  # noqa: PLC0415

    where, wanted = asked(paths, options)
    log_to_terminal("critical")  # what matters is written below
    bar = Bar("exporting", done="exported", is_hidden=is_trial)

    def show(finding: "Finding") -> None:
        if not as_json and finding.outcome in export_findings.OF_INTEREST:
            detail = f": {finding.detail}" if finding.detail else ""
            with bar.aside():
                click.echo(render.escape(f"{finding.outcome:<9} {finding.path}{detail}"))

    ways = exporting.Ways(is_trial, link, users_umask())
    reports = export_findings.Reports(lambda plan: _announce(plan, is_trial=is_trial, as_json=as_json), show, bar.run)
    with going_on_later(is_fetch=not is_trial):
        done = exporting.run(where, folder, wanted, ways=ways, reports=reports)
    _end(done, is_trial=is_trial, as_json=as_json)


def _announce(plan: "Plan", *, is_trial: bool, as_json: bool) -> None:
    if (left_out := plan.left_out_line()) is not None:
        echo_note(left_out)
    if is_trial and as_json:
        render.print_json(plan.as_json())
    elif is_trial:
        for line in plan.lines():
            render.print_line(line)
    else:
        echo_note(plan.lines()[0])


def _end(done: "Exported", *, is_trial: bool, as_json: bool) -> None:
    from vbnfs.cli import export_findings  # noqa: PLC0415

    if done.problem is not None:
        raise ExportError(done.problem)
    if is_trial:
        return
    if as_json:
        render.print_json(_as_json(done.findings))
    else:
        click.echo(export_findings.summary(done.findings))
    export_findings.check(done.findings)


def _as_json(findings: "Sequence[Finding]") -> list[dict[str, Any]]:
    return [finding.as_json() for finding in findings]
