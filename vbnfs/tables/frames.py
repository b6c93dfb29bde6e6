"""The project's tables as AllenSDK gives them: the id as the index, and whole numbers where cells are empty.

AllenSDK 2.16.2, VisualBehaviorNeuropixelsProjectCloudApi: `_get_ecephys_session_table` and its siblings. It changes
nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pandas as pd

# The column of each table that becomes the index.
INDEX_COLUMNS: Final[Mapping[str, str]] = {
    "ecephys_sessions": "ecephys_session_id",
    "behavior_sessions": "behavior_session_id",
    "probes": "ecephys_probe_id",
    "channels": "ecephys_channel_id",
    "units": "unit_id",
}
_WITH_WHOLE_NUMBERS: Final = frozenset({"ecephys_sessions", "behavior_sessions"})
_WHOLE_NUMBERS: Final = (
    "prior_exposures_to_image_set",
    "ecephys_session_id",
    "unit_count",
    "probe_count",
    "channel_count",
)


def as_allensdk(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """A copy of a table, with AllenSDK's index and types; a table that it does not know stays as it is.

    Raises `TypeError` or `ValueError` where a column of whole numbers has others.
    """
    frame = table.copy()
    if name in _WITH_WHOLE_NUMBERS:
        frame = frame.astype({column: "Int64" for column in _WHOLE_NUMBERS if column in frame})
    index = INDEX_COLUMNS.get(name)
    return frame if index not in frame else frame.set_index(index)


def of_rows(rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, index: str) -> pd.DataFrame:
    """A frame of these rows, with one of the columns as its index; of no rows, too. Cells of None are missing."""
    frame = pd.DataFrame.from_records([[row[name] for name in columns] for row in rows], columns=list(columns))
    for name in columns:
        if name.endswith(("bytes", "files")):
            frame[name] = frame[name].astype("Int64")
    return frame.set_index(index)
