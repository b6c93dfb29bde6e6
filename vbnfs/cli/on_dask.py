"""`vbnfs prefetch --dask` and `verify --dask`: what they do on a cluster, and how it is shown."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vbnfs.access.tree_files import Place
from vbnfs.access.verifying import Outcome, Show
from vbnfs.access.wanted import Wanted
from vbnfs.cli.options import OnDask, echo_note, echo_warning
from vbnfs.cli.progress import Bar
from vbnfs.cli.render import files as files_text
from vbnfs.cli.render import size
from vbnfs.dask import files
from vbnfs.dask.cluster import Nodes, dask_itself
from vbnfs.dask.plan import Job, NodeCache, Stock
from vbnfs.errors import CacheError, ClusterError
from vbnfs.logs import quieten

if TYPE_CHECKING:
    from vbnfs.access.filling import Progress

_EXTRA = "--dask needs Dask, here and on the workers: pip install 'vbnfs[dask]'"


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What a fetch would do on a cluster. Sizes in bytes; `caches` are the workers' caches, a row each."""

    dataset_version: str
    files: int
    size_bytes: int
    missing_bytes: int
    left_out_files: int
    workers: int
    caches: tuple[Mapping[str, Any], ...]
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """The plan with its fields' names."""
        return {name: getattr(self, name) for name in self.__slots__}

    def lines(self) -> list[str]:
        """The plan in words."""
        first = f"{self.dataset_version}: {files_text(self.files)}, {size(self.size_bytes)}"
        first += f"; {size(self.missing_bytes)} to fetch, by {_workers(self.workers)}"
        return [first, *map(_cache_line, self.caches)]


def prefetch(where: Place, wanted: Wanted, on: OnDask, show: Show, bar: Bar) -> Outcome:
    """Have files fetched and checked. Raises as without Dask, and `ClusterError`."""
    with _running(where, on, bar) as run:
        chosen = run.choose(wanted, None)
        if chosen.left_out_files:
            echo_note(f"LFP is left out: {files_text(chosen.left_out_files)}; '--lfp yes' takes it too")
        total_bytes = sum(file.size_bytes for file in chosen.files)
        echo_note(f"{chosen.dataset_version}: {files_text(len(chosen.files))}, {size(total_bytes)}")
        return _shown(run.fetch(chosen), show)


def plan(where: Place, wanted: Wanted, on: OnDask) -> ClusterPlan:
    """What `prefetch` would do."""
    with _running(where, on, Bar(is_hidden=True)) as run:
        chosen = run.choose(wanted, None)
        jobs, stocks, nodes = run.plan(chosen)
        return _plan_of(chosen, jobs, stocks, nodes)


def verify(where: Place, on: OnDask, *, fetch: bool, show: Show, bar: Bar) -> Outcome:
    """Have files hashed where they are. Raises as without Dask, and `ClusterError`."""
    with _running(where, on, bar) as run:
        return _shown(run.verify(run.choose_paths(where.paths), is_fetched=fetch), show)


def _plan_of(chosen: files.Chosen, jobs: list[Job], stocks: Mapping[str, Stock], nodes: Nodes) -> ClusterPlan:
    try:
        files.check_room(jobs, stocks)
        problem = None
    except CacheError as error:
        problem = str(error)
    return ClusterPlan(
        dataset_version=chosen.dataset_version,
        files=len(chosen.files),
        size_bytes=sum(file.size_bytes for file in chosen.files),
        missing_bytes=sum(job.missing_bytes for job in jobs),
        left_out_files=chosen.left_out_files,
        workers=sum(len(cache.workers) for cache in nodes.caches),
        caches=tuple(_row(cache, chosen, stocks.get(cache.name, Stock())) for cache in nodes.caches),
        problem=problem,
    )


def _row(cache: NodeCache, chosen: files.Chosen, stock: Stock) -> dict[str, Any]:
    whole = sum(file.content_id in stock.whole for file in chosen.files)
    return {
        "cache": str(cache),
        "workers": len(cache.workers),
        "whole_files": whole,
        "room_bytes": stock.room_bytes,
    }


def _cache_line(row: Mapping[str, Any]) -> str:
    room = "unknown" if row["room_bytes"] is None else size(row["room_bytes"])
    return f"{row['cache']}: {_workers(row['workers'])}, {files_text(row['whole_files'])} here, room for {room} more"


def _workers(count: int) -> str:
    return f"{count:,} worker" + ("" if count == 1 else "s")


def _shown(outcome: Outcome, show: Show) -> Outcome:
    for finding in outcome.findings:
        show(finding)
    return outcome


@contextmanager
def _running(where: Place, on: OnDask, bar: Bar) -> Iterator[files.Run]:
    shown = list[Callable[[], None]]()
    try:
        dask_itself("--dask")  # which sets up its logs when it is imported
    except ImportError as error:
        raise ClusterError(_EXTRA) from error
    quieten("distributed", "distributed.client", "tornado")
    with ExitStack() as stack:

        def watch(progress: "Progress") -> None:
            shown.append(stack.enter_context(bar.shown(progress)))

        def show() -> None:
            for one in shown:
                one()

        parts = (where.config, on.given, on.scheduler, on.cluster)
        yield stack.enter_context(files.running(*parts, note=echo_warning, watch=watch, show=show))
