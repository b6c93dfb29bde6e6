"""Which sessions are here as they were released, without hashing anything: what was found before holds."""

from collections.abc import Collection

from vbnfs.access.versions import Versions
from vbnfs.dataset.kinds import kind_of
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.reading.judged import describe


def verified_sessions(versions: Versions, manifest: Manifest, session_ids: Collection[int]) -> set[int]:
    """Those of some sessions that have a whole file here, and whose whole files all have the manifest's hash.

    It was held against their bytes, and these are the same since. Reads the disk: call it from a thread.
    """
    found: dict[int, list[DataFile]] = {one: [] for one in session_ids}
    for file in manifest.files if found else ():
        session_id = kind_of(file.path).session_id
        if session_id in found:
            found[session_id].append(file)
    return {session_id for session_id, files in found.items() if _are_verified(versions, files)}


def _are_verified(versions: Versions, files: Collection[DataFile]) -> bool:
    cache, verdicts = versions.dataset.cache, versions.dataset.verdicts
    whole = [one for one in versions.contents(files).values() if one is not None and cache.is_whole(one)]
    return bool(whole) and not any(describe(cache, verdicts, one).startswith("no:") for one in whole)
