"""The address of units and probes by area."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vbnfs.api.files import File
from vbnfs.dataset.manifest import Manifest, tables_of
from vbnfs.web.areas_page import SORTS, Areas, areas_of, asked_areas
from vbnfs.web.house import House
from vbnfs.web.rendering import Pages
from vbnfs.web.sessions_page import CHOSEN, Found, asked_of, find
from vbnfs.web.views import in_a_thread, is_own

_KEPT: Final = frozenset({"version", "words", "query", "session"})  # of an address, by the filters of units


class AreaViews:
    """The view of a house that is of its areas."""

    def __init__(self, house: House, pages: Pages) -> None:
        self._house = house
        self._pages = pages

    @property
    def routes(self) -> list[BaseRoute]:
        """Its address."""
        return [Route("/areas", in_a_thread(self.areas))]

    def areas(self, request: Request) -> Response:
        """Units and probes by area, of the sessions that an address asks for.

        The tables are read if all of them is here, or if that is asked for here; else the page says how much is not.
        """
        pairs = request.query_params.multi_items()
        asked, session = asked_of(pairs), _session(request)
        name, table = self._house.table(asked.version, "sessions")
        found = find(table, asked, name=name)
        missing_bytes = self._missing_bytes(self._house.versions.manifest(asked.version))
        is_read = missing_bytes == 0 or (request.query_params.get("read") == "yes" and is_own(request))
        return self._pages.answer(
            request,
            "areas.html",
            asked=asked,
            asked_units=asked_areas(pairs),
            kept=[(name, value) for name, value in pairs if name in _KEPT or name.startswith(CHOSEN)],
            found=found,
            session=session,
            sorts=SORTS,
            missing_bytes=missing_bytes,
            areas=self._areas(request, found, session) if is_read else None,
        )

    def _areas(self, request: Request, found: Found, session: int | None) -> Areas:
        pairs = request.query_params.multi_items()
        version = asked_of(pairs).version
        (_, probes), (_, units) = (self._house.table(version, name) for name in ("probes", "units"))
        ids = found.session_ids if session is None else [one for one in found.session_ids if one == session]
        return areas_of(ids, probes, units, asked_areas(pairs))

    def _missing_bytes(self, manifest: Manifest) -> int:
        """How much of the tables is to be fetched that the page reads."""
        there, house = tables_of(manifest), self._house
        version = manifest.dataset_version.text
        tables = [File(house.connection, there[name], version) for name in ("probes", "units") if name in there]
        return sum(one.size - one.cached_bytes for one in tables)


def _session(request: Request) -> int | None:
    """The one session that an address asks for; None: all that its filters leave."""
    text = request.query_params.get("session")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HTTPException(404, "There is no such session.")
    return int(text)
