"""Which sessions a query matches, in a dataset version's own tables."""

from typing import Final

from vbnfs.access.versions import Versions
from vbnfs.dataset.kinds import BEHAVIOR, SESSION, kind_of
from vbnfs.dataset.manifest import Manifest
from vbnfs.errors import UsageError

ALL: Final = "all"
SESSIONS_TABLE: Final = "ecephys_sessions"
BEHAVIOR_TABLE: Final = "behavior_sessions"
_KINDS: Final = {SESSIONS_TABLE: SESSION, BEHAVIOR_TABLE: BEHAVIOR}


async def ids_matching(versions: Versions, manifest: Manifest, table: str, query: str | None) -> set[int] | None:
    """The ids of the table's rows that match; those of all files of the kind for `all`, None without a query."""
    if query is None:
        return None
    if query == ALL:
        kinds = (kind_of(file.path) for file in manifest.files)
        return {one.session_id for one in kinds if one.kind == _KINDS[table] and one.session_id is not None}
    raise UsageError(f"{query}: only 'all' is understood")
