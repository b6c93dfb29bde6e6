"""Units and probes by area, of the sessions that filters leave (pure).

An area is a structure of the Allen Mouse Common Coordinate Framework, by its acronym. A unit is in one; a probe is in
all that its channels are in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from vbnfs.errors import TablesError, UsageError
from vbnfs.tables.facets import Facet, facets_of, listed_in, query_of
from vbnfs.tables.query import parse_query
from vbnfs.tables.selection import in_order, matching
from vbnfs.web.picked import AREAS

CHOSEN: Final = "u."  # how the names of an address's query begin that choose values of a column of units
SORTS: Final = ("area", "sessions", "probes", "lfp", "units")
_FACETS: Final = ("quality", "valid_data")
_SESSION, _PROBE, _AREA = "ecephys_session_id", "ecephys_probe_id", "structure_acronym"
_NO_AREA: Final = "none"


@dataclass(frozen=True, slots=True)
class AskedAreas:
    """What an address asks for: units by values (literals by column) and by a condition; the order of the areas."""

    chosen: Mapping[str, Sequence[str]]
    condition: str
    sort: str


@dataclass(frozen=True, slots=True)
class AreaRow:
    """An area: how many sessions and probes are in it, of how many of these there is LFP, and units."""

    area: str
    sessions: int
    probes: int
    lfp: int
    units: int

    @property
    def literal(self) -> str:
        """The area as a query of sessions has it."""
        return repr(self.area)


@dataclass(frozen=True, slots=True)
class Areas:
    """The areas, and the numbers of all of them together. `problem`: the condition is wrong, and there are none."""

    rows: Sequence[AreaRow]
    whole: AreaRow
    facets: Sequence[Facet]
    problem: str | None = None


def asked_areas(pairs: Sequence[tuple[str, str]]) -> AskedAreas:
    """What the query of an address asks. Names that are not known are passed over."""
    given, chosen = dict(pairs), dict[str, list[str]]()
    for name, value in pairs:
        if name.startswith(CHOSEN):
            chosen.setdefault(name.removeprefix(CHOSEN), []).append(value)
    sort = given.get("by", "")
    is_known = sort.removeprefix("-") in SORTS
    return AskedAreas(chosen, given.get("units", "").strip(), sort if is_known else "-units")


def areas_of(session_ids: Sequence[int], probes: pd.DataFrame, units: pd.DataFrame, asked: AskedAreas) -> Areas:
    """The areas of some sessions. `probes`, `units`: the tables of their version.

    Raises `TablesError` where these do not say which area something is in.
    """
    _check("probes", probes, (_SESSION, _PROBE, AREAS))
    _check("units", units, (_SESSION, _AREA))
    probes, is_theirs = probes[probes[_SESSION].isin(session_ids)], units[_SESSION].isin(session_ids)
    few = units[[name for name in _FACETS if name in units.columns]]
    try:
        own = is_theirs & _mask(units, asked.condition or None)
        areas = units[_AREA][own & _mask(units, query_of(units, asked.chosen))]
        facets = facets_of(few, own, {name: asked.chosen.get(name, ()) for name in few.columns}, name="units")
    except UsageError as error:
        return Areas([], AreaRow("all", 0, 0, 0, 0), facets_of(few, is_theirs, {}, name="units"), str(error))
    by_area = _by_area(probes, areas)
    rows = in_order(by_area, [asked.sort, "area"], name="areas").to_dict("records")
    has_lfp = int(_has_lfp(probes).sum())
    whole = AreaRow("all", probes[_SESSION].nunique(), len(probes), has_lfp, len(areas))
    return Areas([AreaRow(**{str(name): value for name, value in row.items()}) for row in rows], whole, facets)


def _mask(units: pd.DataFrame, query: str | None) -> "pd.Series[bool]":
    everything = pd.Series(data=True, index=units.index)
    return everything if query is None else matching(units, parse_query(query), name="units")


def _by_area(probes: pd.DataFrame, areas_of_units: "pd.Series[Any]") -> pd.DataFrame:
    """A row for each area that a probe or a unit is in, with the columns `SORTS`."""
    listed = probes.assign(
        area=probes[AREAS].map(lambda text: list(dict.fromkeys(listed_in(str(text))))), has_lfp=_has_lfp(probes)
    )
    by_probe = listed.explode("area").dropna(subset="area").groupby("area")
    counts: dict[str, pd.Series[Any]] = {
        "sessions": by_probe[_SESSION].nunique(),
        "probes": by_probe.size(),
        "lfp": by_probe["has_lfp"].sum(),
        "units": areas_of_units.fillna(_NO_AREA).value_counts(),
    }
    return pd.DataFrame(counts).fillna(0).astype(int).rename_axis("area").reset_index()


def _has_lfp(probes: pd.DataFrame) -> "pd.Series[bool]":
    if "has_lfp_data" not in probes.columns:
        return pd.Series(data=False, index=probes.index)
    return probes["has_lfp_data"].isin([True])


def _check(name: str, table: pd.DataFrame, columns: Sequence[str]) -> None:
    lacking = [column for column in columns if column not in table.columns]
    if lacking:
        raise TablesError(f"{name} has no column {lacking[0]}: this version does not say which area something is in")
