"""`vbnfs prefetch`, `pin`, `unpin`, `pins`, `du`: what they are asked, and how the answers are shown."""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from vbnfs.cli import render
from vbnfs.cli.options import (
    EXIT_STATUS,
    ONLY_OF_A_MOUNT,
    OnDask,
    config_of,
    dask_of,
    echo_note,
    echo_warning,
    given_in,
    log_to_terminal,
    on_dask,
    settings,
)
from vbnfs.errors import PinError, UsageError, VbnfsError

if TYPE_CHECKING:
    from vbnfs.access.fetching import Choose, Plan
    from vbnfs.access.tree_files import Place
    from vbnfs.access.verifying import Finding, Outcome
    from vbnfs.access.wanted import Wanted
    from vbnfs.cli.progress import Bar

_Command = TypeVar("_Command", bound=Callable[..., Any])

_HAVING: Final = ("units", "channels", "probes")  # tables whose rows may be asked to belong to a session
_CHOOSING: Final = ("sessions", "behavior_only", "lfp", *(f"having_{name}" for name in _HAVING))
HIDDEN: Final = ("verify", *ONLY_OF_A_MOUNT)


def choosing(
    dry_run: str | None = "Show what would be fetched, how long, and the room.",
) -> Callable[[_Command], _Command]:
    """The options by which files are chosen; `dry_run` is the help of that one, None for a command that lacks it."""
    trial = () if dry_run is None else (click.option("--dry-run", "is_trial", is_flag=True, help=dry_run),)
    options = (
        click.option("--json", "as_json", is_flag=True, help="As JSON."),
        *trial,
        click.option("--lfp", metavar="yes|no|A,B", help="LFP: all, none, or of these probes.  [default: no]"),
        *(
            click.option(f"--having-{name}", metavar="QUERY", hidden=True, help=f"Sessions with {name} that match.")
            for name in _HAVING
        ),
        click.option("--behavior-only", metavar="QUERY", help="Sessions without recordings that match; or 'all'."),
        click.option("--sessions", metavar="QUERY", help="Files of the sessions that match, and tables; or 'all'."),
    )

    def decorate(command: _Command) -> _Command:
        for option in options:
            command = option(command)
        return command

    return decorate


@click.command(epilog=EXIT_STATUS)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@choosing()
@click.option(
    "--record", "record_file", metavar="FILE", type=Path, help="Just what a mount with --record has written down."
)
@click.option("--pin", "is_pinned", is_flag=True, help="Keep the files: see 'vbnfs pin'.")
@click.option("--name", help="The pin's name.  [default: today's date]")
@click.option("--note", help="The pin's note.")
@on_dask
@settings(*HIDDEN, shown=("dataset_version",))
def prefetch(
    paths: tuple[Path, ...],
    is_trial: bool,
    as_json: bool,
    record_file: Path | None,
    is_pinned: bool,
    name: str | None,
    note: str | None,
    **options: Any,
) -> None:
    """Fetch files, folders, versions or sessions into the cache.

    Each file is checked by its hash. LFP is left out unless it is asked for. After Ctrl-C the same command goes on.
    """
    if not is_pinned and (name is not None or note is not None):
        raise UsageError("--name and --note are those of a pin: add --pin")
    dask = dask_of(options)
    if dask is not None and (is_pinned or record_file is not None):
        raise UsageError("--dask fetches files, sessions or versions: leave --pin and --record out")
    if record_file is not None:
        check_record_chooses(options, more=bool(paths) or is_pinned)
        _fetch(*_recorded(record_file, options), is_trial=is_trial, as_json=as_json)
        return
    where, wanted = asked(paths, options)
    if dask is not None:
        _fetch_on_dask(where, wanted, dask, is_trial=is_trial, as_json=as_json)
    elif is_pinned:
        _pin(where, wanted, name or time.strftime("%Y-%m-%d"), note, is_trial=is_trial, as_json=as_json)
    else:
        _fetch(where, _chosen_by(wanted), is_trial=is_trial, as_json=as_json)


@click.command(epilog=EXIT_STATUS)
@click.argument("words", metavar="NAME [PATH]...", nargs=-1)
@choosing()
@click.option("--note", help="What it is for.")
@click.option("--update", "is_update", is_flag=True, help="Move pins (without NAME, all) to the newest version.")
@settings(*HIDDEN, shown=("dataset_version",))
def pin(
    words: tuple[str, ...],
    is_trial: bool,
    as_json: bool,
    note: str | None,
    is_update: bool,
    **options: Any,
) -> None:
    """Fetch files, and keep them in the cache.

    Nothing evicts what a pin holds, also after a new dataset version. See docs/working-sets.md.
    """
    if is_update:
        if _has_choice(options):
            raise UsageError("--update asks for what the pins were made for: leave --sessions and the like out")
        _update(words, note, options, is_trial=is_trial, as_json=as_json)
        return
    if not words:
        raise UsageError("a pin needs a name, and then what it is to hold: vbnfs pin NAME PATH...")
    name, *paths = words
    if not paths and all(options[chosen] is None for chosen in _CHOOSING):
        where, wanted = _again(name, options)
    else:
        where, wanted = asked(list(map(Path, paths)), options)
    _pin(where, wanted, name, note, is_trial=is_trial, as_json=as_json)


def check_record_chooses(options: dict[str, Any], *, more: bool = False) -> None:
    """Raise `UsageError` where a command line chooses files, too (or by `more`), besides by a record."""
    has_version = "dataset_version" in given_in(options)
    if _has_choice(options) or has_version or more:
        raise UsageError(
            "--record says which files were read: leave paths, --sessions, --lfp, --dataset-version, --pin out"
        )


def _has_choice(options: dict[str, Any]) -> bool:
    """Whether a command line chooses files, where something else says which; the choice is taken out of `options`."""
    return any([options.pop(name) is not None for name in _CHOOSING])  # noqa: C419 - all are to go


def asked(paths: Sequence[Path], options: dict[str, Any]) -> tuple["Place", "Wanted"]:
    """The place in which files are chosen, and the choice. Raises `UsageError`."""
    from vbnfs.access.wanted import Wanted  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415

    sessions, behavior_only, lfp, *queries = (options.pop(name) for name in _CHOOSING)
    having = tuple((name, query) for name, query in zip(_HAVING, queries, strict=True) if query is not None)
    given = given_in(options)
    where = place_of(config_of(options), paths, given=given)
    version = where.config.dataset_version if "dataset_version" in given else None
    return where, Wanted(tuple(where.paths), sessions, behavior_only, lfp or "no", version, having).check()


def _again(name: str, options: dict[str, Any]) -> tuple["Place", "Wanted"]:
    """What a pin was made for."""
    from vbnfs.access import pinning  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415

    _has_choice(options)
    given = given_in(options)
    where = place_of(config_of(options), (), given=given)
    return where, pinning.made_for(where.config, name)


def _recorded(file: Path, options: dict[str, Any]) -> tuple["Place", "Choose"]:
    """Where what a record names is fetched, and what chooses it."""
    from vbnfs.access import recorded  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415

    given = given_in(options)
    where = place_of(config_of(options), (), given=given)
    record = recorded.read_record(file)
    for note in recorded.notes_on(record, where.config):
        echo_warning(f"{file}: {note}")
    return where, recorded.chosen_by(record)


def _chosen_by(wanted: "Wanted") -> "Choose":
    from vbnfs.cli import prefetch  # noqa: PLC0415

    return prefetch.chosen_by(wanted)


def _pin(where: "Place", wanted: "Wanted", name: str, note: str | None, *, is_trial: bool, as_json: bool) -> None:
    """Fetch what is wanted, and hold it by a pin; or say what would be fetched."""
    from vbnfs.access import pinning  # noqa: PLC0415

    where = pinning.in_its_version(where, name, wanted)
    bring = partial(_move, where, name, note, wanted)
    _fetch(where, _chosen_by(wanted), bring, is_trial=is_trial, as_json=as_json)


def _fetch(where: "Place", choose: "Choose", bring: "_Bring | None" = None, *, is_trial: bool, as_json: bool) -> None:
    """Fetch what is chosen, by `bring` if that is given; or say what would be fetched."""
    from vbnfs.cli import prefetch  # noqa: PLC0415

    log_to_terminal("critical")  # what matters is written below
    if is_trial:
        plan = prefetch.run_trial(where, choose, is_pin=bring is not None)
        if as_json:
            render.print_json(plan.as_json())
        _show_plan(plan, as_json=as_json)
        return
    outcome = _bring(bring or (lambda *about: prefetch.run(where, choose, *about)[1]), as_json=as_json)
    if as_json:
        render.print_json([finding.as_json() for finding in outcome.findings])
    _check(outcome)


def _fetch_on_dask(where: "Place", wanted: "Wanted", dask: OnDask, *, is_trial: bool, as_json: bool) -> None:
    """Have a cluster fetch what is wanted; or say what it would fetch."""
    from vbnfs.cli import on_dask as cluster  # noqa: PLC0415
    from vbnfs.errors import CacheError  # noqa: PLC0415

    log_to_terminal("critical")  # what matters is written below
    if is_trial:
        plan = cluster.plan(where, wanted, dask)
        if as_json:
            render.print_json(plan.as_json())
        for line in () if as_json else plan.lines():
            render.print_line(line)
        if plan.problem is not None:
            sys.stdout.flush()
            raise CacheError(plan.problem)
        return
    outcome = _bring(lambda show, bar, _: cluster.prefetch(where, wanted, dask, show, bar), as_json=as_json)
    if as_json:
        render.print_json([finding.as_json() for finding in outcome.findings])
    _check(outcome)


_Bring = Callable[[Callable[["Finding"], None], "Bar", Callable[["Plan"], None]], "Outcome"]


def _check(outcome: "Outcome") -> None:
    from vbnfs.access.verifying import check  # noqa: PLC0415

    check(outcome)


def _bring(bring: _Bring, *, as_json: bool) -> "Outcome":
    """Fetch, with a bar; write what is wrong with files, and how it ended."""
    from vbnfs.access.verifying import GOOD, NO_HASH, PART  # noqa: PLC0415
    from vbnfs.cli import prefetch  # noqa: PLC0415
    from vbnfs.cli import verify as verifying  # noqa: PLC0415
    from vbnfs.cli.progress import Bar, going_on_later  # noqa: PLC0415

    def show(finding: "Finding") -> None:
        if not as_json and finding.outcome not in {GOOD, NO_HASH, PART}:
            detail = f": {finding.detail}" if finding.detail else ""
            with bar.aside():
                click.echo(render.escape(f"{finding.outcome:<12} {finding.path}{detail}"))

    def announce(plan: "Plan") -> None:
        if (left_out := prefetch.left_out_line(plan)) is not None:
            echo_note(left_out)
        echo_note(prefetch.lines_of(plan)[0])

    bar = Bar()
    with going_on_later():
        outcome = bring(show, bar, announce)
    if not as_json:
        click.echo(verifying.summary(outcome))
    return outcome


def _show_plan(plan: "Plan", *, as_json: bool) -> None:
    from vbnfs.cli import prefetch  # noqa: PLC0415
    from vbnfs.errors import CacheError  # noqa: PLC0415

    if not as_json:
        if (left_out := prefetch.left_out_line(plan)) is not None:
            echo_note(left_out)
        for line in prefetch.lines_of(plan):
            render.print_line(line)
    if plan.problem is not None:
        sys.stdout.flush()
        raise CacheError(f"{plan.problem}; nothing was fetched")


def _update(
    names: Sequence[str], note: str | None, options: dict[str, Any], *, is_trial: bool, as_json: bool
) -> None:
    from vbnfs.access import pinning  # noqa: PLC0415
    from vbnfs.cli import prefetch  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415

    given = given_in(options)
    config = config_of(options)
    log_to_terminal("critical")
    where = place_of(config, (), given=given)
    version = config.dataset_version if "dataset_version" in given else None
    found, problems = dict[str, Any](), 0
    moved = pinning.to_move(where.config, names, version)
    if not moved:
        echo_note("no pin is to be moved: those that were made for a version are moved where they are named")
    for name, wanted in moved:
        echo_note(name)
        try:
            if is_trial:
                plan = prefetch.run_trial(where, _chosen_by(wanted), is_pin=True)
                found[name] = plan.as_json()
                _show_plan(plan, as_json=as_json)
            else:
                outcome = _bring(partial(_move, where, name, note, wanted), as_json=as_json)
                found[name] = [finding.as_json() for finding in outcome.findings]
                _check(outcome)
        except VbnfsError as error:
            problems += 1
            echo_warning(f"{name}: {error}")
    if as_json:
        render.print_json(found)
    if problems:
        raise PinError(f"{problems} of the pins are not moved as a whole; they still hold what they held before")


def _move(
    where: "Place",
    name: str,
    note: str | None,
    wanted: "Wanted",
    show: Callable[["Finding"], None],
    bar: "Bar",
    announce: Callable[["Plan"], None],
) -> "Outcome":
    from vbnfs.cli import pinning  # noqa: PLC0415

    return pinning.hold_and_fetch(where, name, note, wanted, show=show, bar=bar, announce=announce)


@click.command(epilog=EXIT_STATUS)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@settings(*HIDDEN, "dataset_version", shown=("cache_dir",))
def unpin(names: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Let go of what pins hold.

    No file is deleted: those that no other pin holds may be evicted from now on, when room is needed.
    """
    from vbnfs.cli import pinning  # noqa: PLC0415

    config = config_of(options)
    log_to_terminal("error")
    freed = pinning.unpin(config, names)
    if as_json:
        render.print_json([{"name": name, "size_bytes": count} for name, count in freed])
    else:
        for name, count in freed:
            render.print_line(f"{name}  {render.size(count)} may be evicted from now on")


@click.command(epilog=EXIT_STATUS)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with what each was made for.")
@settings(*HIDDEN, "dataset_version", shown=("cache_dir", "offline"))
def pins(names: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """List what is pinned, and what of it is newer.

    'newest' says how many files have other contents in the newest version, or are not in it.
    """
    from vbnfs.cli import pinning  # noqa: PLC0415

    config = config_of(options)
    log_to_terminal("error")
    rows, notes = pinning.list_pins(config, names)
    for note in notes:
        echo_warning(note)
    if as_json:
        render.print_json([row.as_json() for row in rows])
        return
    if not rows:
        echo_note("nothing is pinned: 'vbnfs pin NAME PATH...' does that")
        return
    render.print_table(
        ("name", "version", "files ", "size ", "here ", "newest", "note"),
        [
            (row.name, row.dataset_version, f"{row.files:,}", render.size(row.size_bytes),
             render.size(row.here_bytes), row.newest_text(), row.note)
            for row in rows
        ],
    )  # fmt: skip
    for row in rows:
        if row.here_bytes < row.size_bytes:
            echo_note(f"{row.name}: not all of it is here: 'vbnfs pin {row.name}' fetches what is missing")


@click.command(epilog=EXIT_STATUS)
@click.argument("path", required=False, type=Path)
@click.option(
    "--by",
    type=click.Choice(["version", "session", "kind", "pin"]),
    default="version",
    help="What to make rows of.  [default: version]",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@settings(*HIDDEN, shown=("dataset_version", "cache_dir"))
def du(path: Path | None, by: str, as_json: bool, **options: Any) -> None:
    """Show how much of the dataset is in the cache.

    PATH is a file or folder in a mount, or in the dataset, or a version. S3 is not asked. A file that is in several
    rows counts once in the last.
    """
    from vbnfs.cli import du as measuring  # noqa: PLC0415
    from vbnfs.cli.asked import place_of  # noqa: PLC0415

    given = given_in(options)
    where = place_of(config_of(options), () if path is None else (path,), given=given)
    log_to_terminal("error")
    rows = measuring.run(where, by)
    if as_json:
        render.print_json([row.as_json() for row in rows])
        return
    render.print_table(
        (by, "files ", "size ", "here ", "whole ", "pinned "),
        [
            (row.name, f"{row.files:,}",
             *map(render.size, (row.size_bytes, row.here_bytes, row.whole_bytes, row.pinned_bytes)))
            for row in rows
        ],
    )  # fmt: skip
