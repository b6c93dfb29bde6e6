"""Prefetching and verifying on a cluster: files are found here, brought or hashed by workers, and gathered here."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Unpack

import pandas as pd
import trio

from vbnfs.access.filling import Progress
from vbnfs.access.tree_files import asked_files
from vbnfs.access.verifying import CANNOT_BE, FAILED, INCOMPLETE, NO_HASH, Finding, Outcome, check
from vbnfs.access.wanted import Wanted, find
from vbnfs.amounts import size
from vbnfs.api.choosing import Files, Lfp, places_of, wanted_of
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.dataset import Dataset
from vbnfs.api.messages import in_python
from vbnfs.api.os_errors import as_os_errors
from vbnfs.api.progress import Showing, ShowProgress
from vbnfs.api.version import Version
from vbnfs.api.working_sets import open_tables, versions_in
from vbnfs.config.settings import Config
from vbnfs.dask import worker
from vbnfs.dask.cluster import Cluster, Nodes, OnCluster, connected, settings_for_workers
from vbnfs.dask.driving import Answer, Driver, Joining
from vbnfs.dask.plan import (
    ChosenFile,
    Job,
    SpreadFinding,
    Stock,
    fetching_jobs,
    lacking_room,
    merged,
    verifying_jobs,
)
from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.kinds import kind_of
from vbnfs.dataset.names import MANIFESTS
from vbnfs.dataset.object_sizes import ObjectSizes
from vbnfs.dataset.tree import DataNode, Node
from vbnfs.errors import CacheError
from vbnfs.tables.frames import of_rows

_COLUMNS: Final = ("path", "outcome", "size_bytes", "detail", "nodes")
_NO_OUTCOME: Final = "no outcome"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The files that are meant, each once, of a version; by the paths that were asked for, their names."""

    dataset_version: str
    files: Sequence[ChosenFile]
    by_path: Mapping[str, Sequence[str]] = field(default_factory=dict)
    left_out_files: int = 0


def prefetch(
    files: Files = (),
    *,
    dataset: Dataset | Version | None = None,
    sessions: str | None = None,
    behavior_only: str | None = None,
    having: Mapping[str, str] | None = None,
    lfp: Lfp = "no",
    progress: ShowProgress = None,
    **cluster: Unpack[OnCluster],
) -> pd.DataFrame:
    """Have a cluster's workers bring files into their caches, as a whole and checked: `Version.prefetch` on Dask.

    `dataset` is a `Dataset`, whose newest version is meant, or a `Version`; without it that of the settings. Which
    files, `progress` and the errors are as in `Version.prefetch`; `cluster` is `vbnfs.dask.OnCluster`. A row for each
    file says what became of it, and on which `nodes`. Raises `ClusterError` where the cluster cannot do it.

    >>> vbnfs.dask.prefetch(sessions="all", client=client)["outcome"].unique().tolist()
    ['good']
    """
    connection, version = opened(dataset)
    wanted = wanted_of(files, None if version is None else version.name, sessions, behavior_only, having, lfp)
    with Showing(progress) as showing, as_os_errors("prefetch"):
        run = Run(connection, Cluster(cluster, note=warn), showing.watch, showing)
        found = run.fetch(run.choose(wanted, None if version is None else version.name))
        check(found, with_reason=True)
    return frame_of(found)


def verify(
    files: Files = (),
    *,
    dataset: Dataset | Version | None = None,
    fetch: bool = False,
    progress: ShowProgress = None,
    **cluster: Unpack[OnCluster],
) -> pd.DataFrame:
    """Have a cluster's workers hash files where they are: `Version.verify` on Dask.

    Without `files`, all files of a `Version`; of a `Dataset` all that is complete in any cache, of all versions. With
    `fetch` what is missing is fetched, and what is wrong fetched again. Returns what `prefetch` does: files that are
    not good are rows, too.

    >>> _ = vbnfs.dask.prefetch(["project_metadata"], client=client)
    >>> vbnfs.dask.verify(client=client)["outcome"].unique().tolist()
    ['good']
    """
    connection, version = opened(dataset)
    every: Files = () if version is None else ""
    paths = places_of(files or every, None if version is None else version.name)
    with Showing(progress) as showing, as_os_errors("verify"):
        run = Run(connection, Cluster(cluster, note=warn), showing.watch, showing)
        return frame_of(run.verify(run.choose_paths(paths), is_fetched=fetch))


def opened(dataset: Dataset | Version | None) -> tuple[Connection, Version | None]:
    """What a dataset or a version has open, and the version if one was given."""
    one = Dataset() if dataset is None else dataset
    return one._connection, one if isinstance(one, Version) else None


def warn(text: str) -> None:
    """Say what is to be known of a cluster, as Python says it."""
    warnings.warn(text, stacklevel=2)


def frame_of(outcome: Outcome) -> pd.DataFrame:
    """What became of files, by `path` (`v0.5.0/...`): `outcome`, `size_bytes`, `detail`, and `nodes`, with commas."""
    rows = [finding.as_json() for finding in outcome.findings]
    shown = (
        {
            **row,
            "path": row["path"].removeprefix(f"{MANIFESTS}/"),
            "detail": in_python(row["detail"]),
            "nodes": ", ".join(row["nodes"]),
        }
        for row in rows
    )
    return of_rows(shown, _COLUMNS, index="path")


class Run:
    """One command's work on a cluster. `watch` gets the progress, and `show` is called some times a second."""

    def __init__(
        self,
        connection: Connection,
        cluster: Cluster,
        watch: Callable[[Progress], object],
        show: Callable[[], object],
    ) -> None:
        self._connection, self._cluster = connection, cluster
        self._watch, self._show = watch, show
        self._found: list[tuple[str, Finding]] = []
        self._begun: dict[str, int] = {}  # bytes that have come, by the keys of jobs
        self._over = set[str]()  # the keys of jobs that are done

    def choose(self, wanted: Wanted, in_version: str | None) -> Chosen:
        """The files that are wanted. Raises as `Version.prefetch`."""
        return self._connection.run(_choose, wanted.check(), in_version)

    def choose_paths(self, paths: Sequence[str]) -> Chosen:
        """The files at paths of the tree; without any, those of all versions. Raises `DatasetError`."""
        return self._connection.run(_choose_paths, paths)

    def plan(self, chosen: Chosen) -> tuple[list[Job], Mapping[str, Stock], Nodes]:
        """Which jobs fetch these files, and what the caches have."""
        nodes, stocks = self._stocks(chosen)
        return fetching_jobs(chosen.files, stocks, every_node=self._cluster.every_node), stocks, nodes

    def fetch(self, chosen: Chosen) -> Outcome:
        """Bring them into the caches. Raises `CacheError` where there is no room, before anything is fetched."""
        return self._bring(worker.fetch, chosen)

    def verify(self, chosen: Chosen, *, is_fetched: bool) -> Outcome:
        """Hash them where they are, with `is_fetched` after fetching what is missing.

        Where no path was asked for, files that are not cached are left out.
        """
        if is_fetched:
            return self._bring(worker.verify, chosen, is_fetched)
        nodes, stocks = self._stocks(chosen)
        is_asked = bool(chosen.by_path)
        jobs = verifying_jobs(chosen.files, stocks, is_asked=is_asked)

        def more(new: Mapping[str, Stock]) -> list[Job]:
            return [job for job in verifying_jobs(chosen.files, new, is_asked=is_asked) if job.member is not None]

        found = self._drive(worker.verify, chosen, jobs, nodes, stocks, more, is_fetched)
        if is_asked:
            return found
        return Outcome(tuple(one for one in found.findings if one.outcome not in {INCOMPLETE, NO_HASH}))

    def _bring(self, function: Callable[..., Any], chosen: Chosen, *arguments: Any) -> Outcome:
        jobs, stocks, nodes = self.plan(chosen)
        check_room(jobs, stocks)

        def more(new: Mapping[str, Stock]) -> list[Job]:
            return fetching_jobs(chosen.files, new, every_node=True)

        added = more if self._cluster.every_node else None
        return self._drive(function, chosen, jobs, nodes, stocks, added, *arguments)

    def _stocks(self, chosen: Chosen) -> tuple[Nodes, Mapping[str, Stock]]:
        self._given = settings_for_workers(self._connection, chosen.dataset_version)
        nodes = Nodes(self._cluster, self._given)
        nodes.look(self._cluster.wait_for_workers().keys())
        return nodes, nodes.stocks([file.content_id for file in chosen.files if file.content_id is not None])

    def _drive(
        self,
        function: Callable[..., Any],
        chosen: Chosen,
        jobs: Sequence[Job],
        nodes: Nodes,
        stocks: Mapping[str, Stock],
        more: Callable[[Mapping[str, Stock]], list[Job]] | None,
        *arguments: Any,
    ) -> Outcome:
        progress = Progress()
        _count(progress, jobs)
        self._watch(progress)

        def adapt(waiting: list[Job], new: Mapping[str, Stock]) -> list[Job]:
            added = more(new) if more is not None else []
            _count(progress, added)
            return [*waiting, *added]

        driver = Driver(
            self._cluster,
            nodes,
            lambda job, token: (function, (self._given, token, job.key, job.argument, *arguments)),
            on_done=partial(self._take, progress),
            joining=Joining(adapt, is_more=more is not None),
            show=self._show,
            on_event=partial(self._note, progress),
        )
        driver.run(jobs, stocks)
        findings = tuple(merged(self._found, [file.name for file in chosen.files]))
        return Outcome(findings, _barren(chosen, findings))

    def _take(self, progress: Progress, job: Job, answer: Answer, host: str) -> None:
        progress.done_files += len(job.argument)
        progress.done_bytes += job.missing_bytes - self._begun.get(job.key, 0)
        self._over.add(job.key)
        if "result" in answer:
            self._found += [(host, Finding(**finding)) for finding in answer["result"]]
        else:
            self._found += [(host, Finding(name, FAILED, None, str(answer["error"]))) for name in job.argument]

    def _note(self, progress: Progress, message: Mapping[str, Any]) -> None:
        """A worker has reported how many bytes of a job have come."""
        key, done_bytes = str(message["job"]), int(message["done_bytes"])
        if key not in self._over:
            progress.add(done_bytes - self._begun.get(key, 0))
            self._begun[key] = done_bytes


def _count(progress: Progress, jobs: Sequence[Job]) -> None:
    progress.files += sum(len(job.argument) for job in jobs)
    progress.count_bytes += sum(job.missing_bytes for job in jobs)


def check_room(jobs: Sequence[Job], stocks: Mapping[str, Stock]) -> None:
    """Raise `CacheError` where caches have no room for what is to be fetched."""
    if (lacking := lacking_room(jobs, stocks)) is not None:
        need_bytes, room_bytes = lacking
        raise CacheError(
            f"{size(need_bytes)} are to be fetched, but the workers' caches have room for {size(room_bytes)}: name"
            " fewer files, start workers on more nodes, or let the caches take more (cache_size); nothing was fetched"
        )


def _barren(chosen: Chosen, findings: Sequence[SpreadFinding]) -> tuple[str, ...]:
    """The paths that were asked for at which nothing can be verified."""
    outcomes = {finding.path: finding.outcome for finding in findings}
    return tuple(
        path
        for path, names in chosen.by_path.items()
        if {outcomes.get(name, _NO_OUTCOME) for name in names} <= CANNOT_BE
    )


async def _choose(parts: Parts, wanted: Wanted, in_version: str | None) -> Chosen:
    versions = versions_in(parts, in_version)
    found = await find(versions, wanted, open_tables(parts))
    files = await _with_contents(parts, found.files)
    return Chosen(found.dataset_version, files, left_out_files=len(found.left_out))


async def _choose_paths(parts: Parts, paths: Sequence[str]) -> Chosen:
    asked = await trio.to_thread.run_sync(asked_files, parts.versions, paths)
    files = dict[int, tuple[str, Node]]()
    for name, node in (file for found in asked.values() for file in found):
        files.setdefault(node.inode, (name, node))
    by_path = {path: [files[node.inode][0] for _, node in found] for path, found in asked.items()}
    default = parts.versions.release.choose(parts.versions.dataset.config.dataset_version)
    return Chosen(str(default), await _with_contents(parts, list(files.values())), by_path if paths else {})


async def _with_contents(parts: Parts, files: Sequence[tuple[str, Node]]) -> list[ChosenFile]:
    sizes = parts.versions.dataset.catalog.sizes
    await sizes.fetch_all([node.content for _, node in files if isinstance(node, DataNode)])
    return [
        chosen_file(name, node.content, sizes) if isinstance(node, DataNode) else ChosenFile(name)
        for name, node in files
    ]


def chosen_file(name: str, named: NamedContent, sizes: ObjectSizes) -> ChosenFile:
    """A file by its name; of one whose size is not known, no content."""
    session_id, attributes = kind_of(name.split("/")).session_id, sizes.get(named)
    if attributes is None:
        return ChosenFile(name, session_id=session_id)
    content = named.with_attributes(attributes)
    return ChosenFile(name, content.content_id, content.size_bytes, session_id)


@contextmanager
def running(
    config: Config,
    given: Mapping[str, str],
    scheduler: str,
    cluster: OnCluster,
    *,
    note: Callable[[str], None],
    watch: Callable[[Progress], object],
    show: Callable[[], object],
) -> Iterator[Run]:
    """A command's work on the cluster of a scheduler. `given` are its command line's settings, as text by name."""
    connection = Connection(config, given)
    try:
        with connected(scheduler, cluster, note=note) as client:
            yield Run(connection, Cluster({**cluster, "client": client}, note=note), watch, show)
    finally:
        connection.close()
