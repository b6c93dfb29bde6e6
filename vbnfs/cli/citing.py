"""`vbnfs cite`: what it is asked, and how the answer is shown."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vbnfs.cli import render
from vbnfs.cli.options import EXIT_STATUS, config_of, echo_warning, log_to_terminal, settings
from vbnfs.cli.working_sets import HIDDEN, asked, check_record_chooses, choosing
from vbnfs.errors import RecordError, UsageError

if TYPE_CHECKING:
    from vbnfs.access.tree_files import Place
    from vbnfs.access.wanted import Wanted


@click.command(epilog=EXIT_STATUS)
@click.option(
    "--record", "record_file", metavar="FILE", type=Path, help="What a mount with --record has written down."
)
@choosing(None)
@click.option("--ro-crate", metavar="DIR", type=Path, help="Write an RO-Crate into a new folder.")
@click.option("--license", "license_url", metavar="URL", help="The license of the data, for the RO-Crate.")
@settings(*HIDDEN, shown=("dataset_version",))
def cite(
    record_file: Path | None, as_json: bool, ro_crate: Path | None, license_url: str | None, **options: Any
) -> None:
    """Print which dataset versions, files and hashes were read.

    As text for a paper's methods, with a list that 'b2sum --check' takes. See docs/records.md.
    """
    from vbnfs.access import citing  # noqa: PLC0415

    if license_url is not None and ro_crate is None:
        raise UsageError("--license is that of an RO-Crate: add --ro-crate DIR")
    log_to_terminal("error")
    if record_file is None:
        where, wanted = asked((), options)
        found = _of_wanted(where, wanted)
    else:
        found = _of_record(record_file, options)
    if ro_crate is not None:
        _write_crate(ro_crate, found, license_url)
    if as_json:
        render.print_json([version.as_json() for version in found])
    elif ro_crate is None:
        for line in citing.text_of(found):
            sys.stdout.write(render.escape(line) + "\n")


def _of_record(record: Path, options: dict[str, Any]) -> list[Any]:
    from vbnfs.access import citing  # noqa: PLC0415
    from vbnfs.access.recorded import read_record  # noqa: PLC0415

    check_record_chooses(options)
    found = read_record(record)
    if found.problem is not None:
        echo_warning(f"{record}: {found.problem}")
    return citing.of_record(config_of(options), found, str(record))


def _of_wanted(where: "Place", wanted: "Wanted") -> list[Any]:
    from vbnfs.access import citing  # noqa: PLC0415
    from vbnfs.access.dataset import open_dataset  # noqa: PLC0415
    from vbnfs.cli.running import load_aloud, open_tables, run  # noqa: PLC0415

    async def work() -> list[Any]:
        async with open_dataset(where.config) as dataset:
            versions = await load_aloud(dataset, max_age_seconds=where.max_age_seconds)
            return await citing.of_wanted(versions, wanted, open_tables(versions))

    return run(work)


def _write_crate(folder: Path, found: list[Any], license_url: str | None) -> None:
    try:
        from vbnfs.cli import ro_crate  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise RecordError("--ro-crate: rocrate is not installed: pip install 'vbnfs[cite]'") from error
    ro_crate.write(folder, found, license_url)
