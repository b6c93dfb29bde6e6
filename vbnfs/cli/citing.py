"""`vbnfs cite`: what it is asked, and how the answer is shown."""

import sys
from pathlib import Path
from typing import Any

import click

from vbnfs.cli import render
from vbnfs.cli.options import config_of, echo_warning, log_to_terminal, settings
from vbnfs.cli.working_sets import HIDDEN, asked, ending
from vbnfs.errors import RecordError, UsageError


@click.command(epilog=ending("vbnfs cite --record figure-3.jsonl"))
@click.option("--record", metavar="FILE", type=Path, help="What a mount with --record has written down.")
@click.option("--sessions", metavar="QUERY", help="Files of the sessions that match, and tables; or 'all'.")
@click.option("--behavior-only", metavar="QUERY", help="Sessions without recordings that match; or 'all'.")
@click.option("--having-units", metavar="QUERY", hidden=True, help="Sessions with units that match.")
@click.option("--having-channels", metavar="QUERY", hidden=True, help="Sessions with channels that match.")
@click.option("--having-probes", metavar="QUERY", hidden=True, help="Sessions with probes that match.")
@click.option("--lfp", metavar="yes|no|A,B", help="LFP: all, none, or of these probes.  [default: no]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--ro-crate", metavar="DIR", type=Path, help="Write an RO-Crate into a new folder.")
@click.option("--license", "license_url", metavar="URL", help="The license of the data, for the RO-Crate.")
@settings(*HIDDEN, shown=("dataset_version",))
def cite(record: Path | None, as_json: bool, ro_crate: Path | None, license_url: str | None, **options: Any) -> None:
    """Print which dataset versions, files and hashes were read.

    As text for a paper's methods, with a list that 'b2sum --check' takes. See docs/records.md.
    """
    from vbnfs.cli import cite as citing  # noqa: PLC0415

    if license_url is not None and ro_crate is None:
        raise UsageError("--license is that of an RO-Crate: add --ro-crate DIR")
    log_to_terminal("error")
    if record is None:
        where, wanted = asked((), options)
        found = citing.of_sessions(where, wanted)
    else:
        found = _of_record(record, options)
    if ro_crate is not None:
        _write_crate(ro_crate, found, license_url)
    if as_json:
        render.print_json([version.as_json() for version in found])
    elif ro_crate is None:
        for line in citing.text_of(found):
            sys.stdout.write(render.escape(line) + "\n")


def _of_record(record: Path, options: dict[str, Any]) -> list[Any]:
    from vbnfs.cli import cite as citing  # noqa: PLC0415
    from vbnfs.cli.recorded import read_record  # noqa: PLC0415

    chosen = ("sessions", "behavior_only", "lfp", "having_units", "having_channels", "having_probes")
    if any([options.pop(name) is not None for name in chosen]):  # noqa: C419 - all are to go
        raise UsageError("--record says which files were read: leave --sessions, --lfp and the like out")
    found = read_record(record)
    if found.damaged or found.lost:
        echo_warning(f"{record}: {found.damaged:,} lines cannot be read, and {found.lost:,} were not written")
    return citing.of_record(config_of(options), found, str(record))


def _write_crate(folder: Path, found: list[Any], license_url: str | None) -> None:
    try:
        from vbnfs.cli import ro_crate  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise RecordError(f"--ro-crate: {error.name} is not installed: pip install 'vbnfs[cite]'") from error
    ro_crate.write(folder, found, license_url)
