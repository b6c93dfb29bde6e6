"""Files that are read in place: how many there are, and `vbnfs import --forget`, which ends that."""

from collections.abc import Collection
from pathlib import Path

from vbnfs.access.cache_directory import is_there, prepare_cache_directory
from vbnfs.cache.in_place import Entry, Noted, all_noted
from vbnfs.cli.file_finding import Finding
from vbnfs.cli.import_findings import FORGOTTEN, WOULD_FORGET
from vbnfs.cli.render import files, size
from vbnfs.config.settings import Config
from vbnfs.errors import CacheError
from vbnfs.host.mountinfo import absolute
from vbnfs.host.places import folder_at
from vbnfs.host.private import keep_others_out


def forget(config: Config, folder: Path, *, is_trial: bool) -> tuple[Finding, ...]:
    """Have no file in a folder, or no such file, be read in place any more. The files may be gone; those there stay.

    With `is_trial` nothing changes, and a finding's detail is why it is not read now. Else the files' disk, which
    may hang, is not asked. Raises `CacheError` where there is no such file, or the cache cannot be changed.
    """
    keep_others_out()
    top, noted = absolute(folder), list[Noted]()
    if is_there(config.cache_dir):
        prepare_cache_directory(config.cache_dir)
        noted = list(all_noted(folder_at(config.cache_dir)))
    found = [one for one in noted if one.entry.path.is_relative_to(top)]
    if not found:
        remedy = "'vbnfs import --forget --dry-run /' lists those that are" if noted else "nor is any other"
        raise CacheError(f"{folder}: no file there is read in place by the cache in {config.cache_dir}; {remedy}")
    for one in found if not is_trial else ():
        _forget(one)
    return tuple(_finding(one.entry, is_trial=is_trial) for one in sorted(found, key=lambda one: one.entry.path))


def _finding(entry: Entry, *, is_trial: bool) -> Finding:
    if is_trial:
        return Finding(str(entry.path), WOULD_FORGET, entry.seal.size_bytes, entry.problem or "")
    return Finding(str(entry.path), FORGOTTEN, entry.seal.size_bytes)


def _forget(one: Noted) -> None:
    try:
        one.forget()
    except OSError as error:
        raise CacheError(f"{one.place}: cannot be deleted: {error.strerror}; what came before it is done") from error


def in_place_text(directory: Path) -> str | None:
    """What is read in place, besides what a cache takes; None if nothing is."""
    found = [one.entry for one in all_noted(folder_at(directory))]
    if not found:
        return None
    lost = [entry for entry in found if entry.problem is not None]
    total_bytes = sum(entry.seal.size_bytes for entry in found)
    text = f"read in place, not counted: {files(len(found))} ({size(total_bytes)})"
    if not lost:
        return text
    first = f"{lost[0].path} ({lost[0].problem})"
    remedy = "'vbnfs import --in-place' takes up again those that are there, 'vbnfs import --forget' ends it"
    return f"{text}; {len(lost)} of them not now, such as {first}: {remedy}"


def stays_in_place_text(paths: Collection[Path]) -> str:
    """Why freeing these files freed nothing."""
    which = f"{next(iter(paths))} is" if len(paths) == 1 else f"{files(len(paths))} are"
    return f"{which} read in place, outside of the cache: 'vbnfs import --forget' with the path ends that"
