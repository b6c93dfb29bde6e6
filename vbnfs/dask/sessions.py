"""A function run once a session, where the session's files are cached."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from vbnfs.access.finding import Asked, Finder
from vbnfs.access.session_files import ALL
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.dataset import Dataset
from vbnfs.api.os_errors import as_os_errors
from vbnfs.api.progress import Showing
from vbnfs.api.version import Version
from vbnfs.api.working_sets import versions_in
from vbnfs.dask import worker
from vbnfs.dask.cluster import Cluster, Nodes, OnCluster, settings_for_workers
from vbnfs.dask.driving import Answer, Driver, Joining
from vbnfs.dask.files import chosen_file, opened, warn
from vbnfs.dask.manifest import manifest_of
from vbnfs.dask.plan import ChosenFile, Job, Stock, placed_anew
from vbnfs.dask.results import Format, ResultFolder, Results
from vbnfs.errors import ResultsError
from vbnfs.tables.query import parse_query

SessionProgress = Callable[["Sessions"], object]


@dataclass(slots=True)
class Sessions:
    """How far a run is: of so many `sessions` so many are `done`, of which so many `failed`.

    >>> str(vbnfs.dask.Sessions(sessions=10, done=3, failed=1))
    '3 of 10 sessions, 1 failed'
    """

    sessions: int
    done: int = 0
    failed: int = 0

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done:,} of {self.sessions:,} sessions{failed}"


def map_sessions(
    function: Callable[..., Any],
    query: str = ALL,
    *,
    results: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    dataset: Dataset | Version | None = None,
    having: Mapping[str, str] | None = None,
    stored_as: Format | None = None,
    progress: bool | SessionProgress | None = None,
    **cluster: Unpack[OnCluster],
) -> Results:
    """Have a cluster's workers call `function(session, **arguments)` once for each session that matches.

    `session` is a `vbnfs.Session` in the worker. A session runs on a node whose cache has most of its files; one that
    is in no cache on any. `query` and `having` are those of `Version.find`, of sessions with recordings that have a
    file. A call that fails, or whose worker is lost, is repeated; `Results.failed` has what failed to the end.

    With `results`, a folder, each result is stored as soon as it is there: the same call goes on with what is
    missing. Another query may use the same folder, and returns its own sessions alone. A folder of another function,
    other arguments or another version raises `ResultsError`. `stored_as`: how, if not by the result's kind (JSON,
    arrays, frames). `dataset`, `progress` and `cluster` are as in `vbnfs.dask.prefetch`; a function gets
    `vbnfs.dask.Sessions`.

    >>> def count_units(session):
    ...     with session.h5() as file:
    ...         return {"units": len(file["units/id"])}
    >>> vbnfs.dask.map_sessions(count_units, "experience_level == 'Novel'", client=client).table["units"].to_dict()
    {1044385384: 1}
    """
    connection, version = opened(dataset)
    with as_os_errors("map_sessions"):
        run = _Run(connection, Cluster(cluster, note=warn), function, dict(arguments or {}))
        name, chosen = connection.run(_chosen, None if version is None else version.name, query, having or {})
        folder = None if results is None else ResultFolder(Path(results), stored_as)
        done = set[int]() if folder is None else folder.open(run.manifest(name))
        state = Sessions(len(chosen), len(done & chosen.keys()))
        with Showing(progress, text=str) as showing:
            showing.watch(state)
            run.run(name, {one: files for one, files in chosen.items() if one not in done}, folder, state, showing)
    return run.results() if folder is None else folder.read(of=chosen.keys())


class _Run:
    """A run of a function."""

    def __init__(
        self, connection: Connection, cluster: Cluster, function: Callable[..., Any], arguments: dict[str, Any]
    ) -> None:
        self._connection, self._cluster = connection, cluster
        self._function, self._arguments = function, arguments
        self._values = dict[int, Any]()
        self._failures = dict[int, dict[str, str]]()

    def manifest(self, dataset_version: str) -> dict[str, Any]:
        """What the results are of."""
        config = self._connection.config
        about = {"bucket": config.bucket, "project": config.project, "dataset_version": dataset_version}
        return {**manifest_of(self._function, self._arguments), **about}

    def results(self) -> Results:
        """What is there."""
        return Results(self._values, self._failures)

    def run(
        self,
        dataset_version: str,
        chosen: Mapping[int, list[ChosenFile]],
        folder: ResultFolder | None,
        state: Sessions,
        show: Callable[[], object],
    ) -> None:
        """Have it called for sessions, of which these are the files."""
        if folder is not None:
            folder.note_failures({}, of=chosen.keys())
        if not chosen:
            return
        given = settings_for_workers(self._connection, dataset_version)
        nodes = Nodes(self._cluster, given)
        nodes.look(self._cluster.wait_for_workers().keys())
        ids = [file.content_id for files in chosen.values() for file in files if file.content_id is not None]
        stocks = nodes.stocks(ids)

        def call(job: Job, token: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return worker.call, (given, token, job.argument, self._function, self._arguments)

        def take(job: Job, answer: Answer, host: str) -> None:
            self._take(job.argument, answer, folder)
            state.done += 1
            state.failed = len(self._failures)

        def adapt(waiting: list[Job], new: Mapping[str, Stock]) -> list[Job]:
            return placed_anew(waiting, chosen, new)

        driver = Driver(self._cluster, nodes, call, threads=True, on_done=take, joining=Joining(adapt), show=show)
        driver.run(placed_anew([Job(f"session {one}", one) for one in chosen], chosen, stocks), stocks)

    def _take(self, session_id: int, answer: Answer, folder: ResultFolder | None) -> None:
        try:
            if "error" not in answer:
                value = answer["result"]
                if folder is None:
                    self._values[session_id] = value
                else:
                    folder.add(session_id, value)
                return
            failure = {"error": str(answer["error"]), "traceback": str(answer.get("traceback", ""))}
        except ResultsError as error:
            failure = {"error": str(error), "traceback": ""}
        self._failures[session_id] = failure
        if folder is not None:
            folder.note_failures(self._failures, of=self._failures.keys())


async def _chosen(
    parts: Parts, in_version: str | None, query: str, having: Mapping[str, str]
) -> tuple[str, dict[int, list[ChosenFile]]]:
    """The version's name; and the sessions that match, by id, with their files."""
    versions = versions_in(parts, in_version)
    manifest = versions.manifest(versions.dataset.config.dataset_version)
    conditions = {table: parse_query(text) for table, text in having.items()}
    asked = Asked(None if query == ALL else parse_query(query), conditions)
    found = await Finder(parts.tables_of(manifest)).sessions(asked)
    sizes = versions.dataset.catalog.sizes
    await sizes.fetch_all([versions.named.of(file) for _, row in found for file in row.all])
    chosen = {
        session_id: [chosen_file("/".join(file.path), versions.named.of(file), sizes) for file in row.all]
        for session_id, row in found
        if row.own is not None
    }
    return manifest.dataset_version.text, chosen
