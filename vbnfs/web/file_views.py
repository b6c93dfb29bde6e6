"""The addresses of files: folders, a file, its structure; verifying it, and deleting it from the cache."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vbnfs.api.files import File
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.dataset.names import MANIFESTS
from vbnfs.errors import Hdf5Error, StorageError, VbnfsError, with_remedy
from vbnfs.hdf5.found_file import Hdf5File
from vbnfs.web.file_page import FileFacts, entry_at, facts_of, of_dataset, place_of, recipes, state_of
from vbnfs.web.files_page import folder_at, of_session
from vbnfs.web.house import House
from vbnfs.web.jobs_view import STATE_CHANGED, show_jobs
from vbnfs.web.quick_looks import TITLES, UNIT, WAVEFORM, QuickLook, asked_of, offered
from vbnfs.web.rendering import Pages
from vbnfs.web.structure_page import Structures, picture_of, rows_of, shortened
from vbnfs.web.views import form_of, in_a_thread, is_own, number_of

_MOST_NAMES: Final = 100  # that lead to an object: deeper ones are not read
_MOST_LETTERS: Final = 2000  # of a message, which has names of the file


class FileViews:
    """The views of a house that are of its files."""

    def __init__(self, house: House, pages: Pages) -> None:
        self._house = house
        self._pages = pages
        self._structures = Structures()

    @property
    def routes(self) -> list[BaseRoute]:
        """Their addresses."""
        return [
            Route("/files", in_a_thread(self.files)),
            Route("/file/{version}/{path:path}", in_a_thread(self.file)),
            Route("/structure/{version}/{path:path}", in_a_thread(self.structure)),
            Route("/look/{version}/{path:path}", in_a_thread(self.look)),
            Route("/verify", in_a_thread(self.verify), methods=["POST"]),
            Route("/evict", in_a_thread(self.evict), methods=["POST"]),
        ]

    def files(self, request: Request) -> Response:
        """A folder of a version."""
        house, asked = self._house, request.query_params
        manifest = house.versions.manifest(asked.get("version") or None)
        path, words = _asked_folder(manifest, asked)
        page = number_of(asked.get("page"))
        folder = folder_at(house.versions, house.here(), manifest, path, words=words, page=page)
        if folder is None:
            raise _not_there(manifest, path)
        return self._pages.answer(
            request,
            "files.html",
            folder=folder,
            path=path,
            words=words,
            version=manifest.dataset_version.text,
            all_versions=[str(one) for one in house.versions.release.versions][::-1],
        )

    def file(self, request: Request) -> Response:
        """A file of a version. Nothing is fetched for it."""
        manifest, entry = self._entry(request)
        state = self._house.connection.run(state_of, entry)
        facts = facts_of(self._house.versions, manifest, entry, state)
        mounted = self._mounted(facts)
        return self._pages.answer(
            request,
            "file.html",
            file=facts,
            mounted=mounted,
            recipes=recipes(facts, mounted or facts.local_path, self._house.lines),
            python_line=self._house.lines.python(of_dataset(facts)),
        )

    def structure(self, request: Request) -> Response:
        """What an HDF5 file has below an object of it."""
        manifest, entry = self._entry(request)
        inner = [part for part in request.query_params.get("object", "").split("/") if part not in {"", "."}]
        if len(inner) > _MOST_NAMES:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"No object is more than {_MOST_NAMES} names deep.")
        place = place_of(manifest, entry)
        values: dict[str, Any] = {
            "version": manifest.dataset_version.text,
            "path": "/".join(entry.path),
            "inner": inner,
        }
        try:
            look = self._house.connection.run(self._structures.look, entry, place, inner)
        except (Hdf5Error, StorageError) as error:
            problem = shortened(with_remedy(error), _MOST_LETTERS)
            return self._pages.answer(request, "structure.html", **values, problem=problem, look=None)
        parts: dict[str, Any] = {
            "look": look,
            "found": rows_of(look.file, number_of(request.query_params.get("page"))),
            "picture": picture_of(look.file),
            "looks": offered({path for path, _ in look.file.structure.paths()}),
            "problem": _lacking(look.file),
        }
        answer = self._pages.answer(request, "structure.html", **values, **parts)
        if look.fetched_bytes:
            answer.headers.update(STATE_CHANGED)  # the file's page says how much of it is here
        return answer

    def look(self, request: Request) -> Response:
        """A quick look: figures of a part of the file, of which only that is fetched, if this page asks for it."""
        manifest, entry = self._entry(request)
        asked = asked_of(request.query_params)
        if asked.kind not in TITLES:
            raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such figure.")
        version, problem = manifest.dataset_version.text, ""
        look: QuickLook | None = None
        try:
            if is_own(request):
                look = self._house.looking.look(File(self._house.connection, entry, version), asked)
        except VbnfsError as error:
            problem = with_remedy(error)
        return self._pages.answer(
            request,
            "look.html",
            version=version,
            path="/".join(entry.path),
            title=TITLES[asked.kind],
            asked=asked,
            look=look,
            problem=problem,
            others=[(kind, TITLES[kind]) for kind in (UNIT, WAVEFORM) if asked.kind in {UNIT, WAVEFORM} - {kind}],
        )

    def verify(self, request: Request) -> Response:
        """Begin to hold a file against its hash."""
        self._house.verify(_place(request))
        return show_jobs(self._house.jobs, self._pages, request)

    def evict(self, request: Request) -> Response:
        """Delete a file from the cache."""
        self._house.evict(_place(request))
        return show_jobs(self._house.jobs, self._pages, request)

    def _entry(self, request: Request) -> tuple[Manifest, DataFile]:
        version, path = request.path_params["version"], request.path_params["path"]
        manifest = self._house.versions.manifest(version.removeprefix("v"))
        entry = entry_at(manifest, path)
        if entry is None:
            raise _not_there(manifest, path)
        return manifest, entry

    def _mounted(self, facts: FileFacts) -> Path | None:
        mountpoint = self._house.mountpoint()
        return None if mountpoint is None else mountpoint / facts.place


def _asked_folder(manifest: Manifest, asked: Mapping[str, str]) -> tuple[str, str]:
    """The folder that an address asks for, itself or by a session, and the words that names in it are to have."""
    if session := asked.get("session"):
        found = of_session(manifest, number_of(session))
        if found is None:
            raise _not_there(manifest, f"session {session}")
        return found
    return asked.get("folder", "").strip("/"), asked.get("words", "")


def _place(request: Request) -> str:
    """The one place that a form names."""
    match form_of(request).get("place"):
        case [place] if place.startswith(f"{MANIFESTS}/"):
            return place
    raise HTTPException(HTTPStatus.BAD_REQUEST, "No form of this page.")


def _not_there(manifest: Manifest, path: str) -> HTTPException:
    return HTTPException(HTTPStatus.NOT_FOUND, f"Version {manifest.dataset_version} has no {path}.")


def _lacking(file: Hdf5File) -> str:
    """Why not all was found; '' where all was."""
    try:
        file.check()
    except Hdf5Error as error:
        return str(error)
    return ""
