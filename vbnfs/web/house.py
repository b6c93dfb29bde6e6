"""What the page shows: the dataset as a process has it open, its tables, and the mounts that have it.

Views are functions that run in threads of the server, and reach the event loop of access/ by the door that Python's
API has. Values that never change are kept; what the cache has of them is looked up for each answer.
"""

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd
import trio

from vbnfs.access.fetching import Plan
from vbnfs.access.freeing import free
from vbnfs.access.here import Here
from vbnfs.access.mount_figures import ask_figures
from vbnfs.access.mount_status import status_of
from vbnfs.access.opening import scope_of
from vbnfs.access.running_mounts import shows_dataset_of
from vbnfs.access.verified import VerifiedSessions
from vbnfs.access.verifying import check
from vbnfs.access.versions import Versions
from vbnfs.access.wanted import Wanted
from vbnfs.amounts import files, size
from vbnfs.api.connection import Connection, Parts
from vbnfs.api.dataset import Dataset
from vbnfs.api.progress import Progress
from vbnfs.api.working_sets import brought, plan, verified
from vbnfs.cache.eviction import DEFAULT_BYTES, stored_size
from vbnfs.cache.inventory import scan
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import Manifest
from vbnfs.errors import MountError, PinError, UsageError
from vbnfs.host import mountinfo
from vbnfs.host.identity import our_uid
from vbnfs.host.places import folder_at
from vbnfs.web.copied import Lines
from vbnfs.web.examining import Examine, Examining
from vbnfs.web.files_page import places_in
from vbnfs.web.jobs import Jobs, Report, Work
from vbnfs.web.looking import Looking
from vbnfs.web.machine_page import CacheFacts, Looks, by_age
from vbnfs.web.orders import Kind, Order
from vbnfs.web.page_tables import PageTables
from vbnfs.web.picked import AREAS, NO_LFP, Picked, files_of
from vbnfs.web.readings import Patience, Readings, usual_patience
from vbnfs.web.release_notes import ReleaseNotes, read_notes
from vbnfs.web.renewing import Renewing
from vbnfs.web.sessions_page import Asked, ids_of
from vbnfs.web.unfinished import FORMAT, Unfinished
from vbnfs.web.versions_page import KnownKinds

_ANSWER_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 5.0  # for jobs to end

AskStatus = Callable[[mountinfo.MountEntry], Mapping[str, Any]]


def _ask(entry: mountinfo.MountEntry) -> Mapping[str, Any]:
    return status_of(entry, seconds=_ANSWER_SECONDS)


class House:
    """A dataset for the page. Thread-safe."""

    def __init__(
        self,
        config: Config,
        *,
        examine: Examine,
        lines: Lines | None = None,
        ask: AskStatus = _ask,
        patience: Patience = usual_patience,
    ) -> None:
        self.lines: Final = lines or Lines()
        self.connection: Final = Connection(config, messages=nullcontext)  # options are as in the command
        self.dataset: Final = Dataset.on(self.connection)
        unfinished = Unfinished(folder_at(config.cache_dir) / FORMAT / scope_of(config))
        self.jobs: Final = Jobs(self._work_of, unfinished)
        threading.Thread(target=self.jobs.recall, name="recall", daemon=True).start()  # its disk may hang
        self.looks: Final = Looks(ask_figures)
        self.looking: Final = Looking()
        self.kinds: Final = KnownKinds()
        self.verified: Final = VerifiedSessions()
        self.examining: Final = Examining(examine)
        self.notes: Final = ReleaseNotes(lambda: self.connection.run(read_notes))
        self.tables: Final = PageTables(self.connection, Readings(patience))
        self._ask = ask
        self._renewing = Renewing(self._renew, config.refresh_seconds)

    @property
    def config(self) -> Config:
        """The settings that hold."""
        return self.connection.config

    @property
    def versions(self) -> Versions:
        """The dataset's versions. Raises a `VbnfsError` where there are none to be had."""
        found = self.connection.value.versions
        self._renewing.look()
        return found

    def table(self, version: str | None, name: str) -> tuple[str, pd.DataFrame]:
        """See `PageTables.rows`."""
        return self.tables.rows(self.versions.manifest(version), name)

    def places(self, picked: Picked, asked: Asked) -> list[str]:
        """The places of the files of picked sessions; `asked`: the filters of the page on which they were picked.

        Raises `UsageError` where these are wrong, or find no file.
        """
        manifest = self.versions.manifest(picked.version)
        ids = self._all_found(manifest, asked) if picked.is_all else picked.session_ids
        areas = [literal.strip("'\"") for literal in asked.chosen.get(AREAS, ())]
        work = partial(files_of, manifest=manifest, session_ids=ids, lfp=picked.lfp, areas=areas)
        if not (places := self.tables.asked(manifest, work)):
            raise UsageError("no session with files is picked: tick some in the table, or all that were found")
        return places

    def places_in(self, picked: Picked, folder: str, words: str) -> list[str]:
        """The places of a folder, or of what is in it with some words in its name. Raises `UsageError` for none."""
        manifest = self.versions.manifest(picked.version)
        if not (places := places_in(manifest, folder, words, with_lfp=picked.lfp != NO_LFP)):
            raise UsageError("nothing is picked: no file has such a name, or it is LFP, which is left out")
        return places

    def _all_found(self, manifest: Manifest, asked: Asked) -> Sequence[int]:
        name, table = self.tables.rows(manifest, "sessions", is_awaited=True)
        return ids_of(table, asked, name=name)

    def plan(self, picked: Picked, places: Sequence[str]) -> Plan:
        """What fetching files would do. Raises a `VbnfsError`."""
        wanted = Wanted(tuple(places), lfp=picked.wanted_lfp, dataset_version=picked.version)
        return plan(self.connection, wanted, picked.version, is_pin=picked.pin is not None)

    def fetch(self, picked: Picked, places: Sequence[str]) -> int:
        """Begin to fetch files, and to pin them if a pin is named; the number of the job."""
        Wanted(tuple(places), lfp=picked.wanted_lfp, dataset_version=picked.version).check()
        return self.jobs.start(Order(Kind.FETCH, tuple(places), picked.version, picked.pin, picked.wanted_lfp))

    def verify(self, place: str) -> int:
        """Begin to hold what is here of a file against its hash; the number of the job."""
        return self.jobs.start(Order(Kind.VERIFY, (place,)))

    def evict(self, place: str) -> int:
        """Begin to delete a file from the cache, unless a pin holds it; the number of the job."""
        return self.jobs.start(Order(Kind.EVICT, (place,)))

    def _work_of(self, order: Order) -> Work:
        return partial(
            {Kind.FETCH: self._fetched, Kind.VERIFY: self._verified, Kind.EVICT: self._evicted}[order.kind], order
        )

    def _fetched(self, order: Order, report: Report) -> str:
        wanted = Wanted(tuple(order.places), lfp=order.lfp, dataset_version=order.version).check()
        found = brought(self.connection, wanted, order.version, pin=order.pin, progress=report, first=Progress())
        check(found, with_reason=True)
        return f"{files(len(found.findings))} here, and checked" + (
            f"; held by the pin {order.pin}" if order.pin else ""
        )

    def _verified(self, order: Order, report: Report) -> str:
        found = verified(self.connection, order.places, is_fetched=False, progress=report, first=Progress())
        check(found, with_reason=True)
        return "its hash is the manifest's"

    def _evicted(self, order: Order, report: Report) -> str:
        place = order.places[0]
        if pins := free(self.versions, [place], (), is_trial=True).torn:
            raise PinError(f"{place}: the pin {pins[0]} holds it; 'vbnfs unpin {pins[0]}' lets go of it")
        freed = free(self.versions, [place], (), is_trial=False)
        self.connection.run(_forget_deleted)
        return f"{size(sum(freed.deleted.values()))} deleted; S3 still has it"

    def cache(self) -> CacheFacts:
        """What the cache takes: in all, and by when it was used last."""
        now_ns, found = time.time_ns(), list(scan(folder_at(self.config.cache_dir)))
        return CacheFacts(
            directory=str(self.config.cache_dir),
            files=len(found),
            size_bytes=sum(one.allocated_bytes for one in found),
            limit_bytes=self.config.cache_size_bytes or stored_size(self.config.cache_dir, DEFAULT_BYTES),
            ages=by_age(((now_ns - one.used_ns) / 1e9, one.allocated_bytes) for one in found),
        )

    def pins(self) -> list[dict[Hashable, Any]]:
        """The pins of the cache, with the columns that `vbnfs.Dataset.pins` has."""
        return self.dataset.pins.reset_index().to_dict("records")

    def here(self) -> Here:
        """What the cache has now."""
        return Here.of(self.config)

    def mountpoint(self) -> Path | None:
        """Where a mount shows this dataset: one of the user's, else one of root's that is open to the user.

        None where none does.
        """
        ours = [entry for entry in mountinfo.list_mounts() if entry.owner == our_uid()]
        for entry in ours + mountinfo.roots_mounts():
            try:
                if shows_dataset_of(self._ask(entry), self.config):
                    return entry.mountpoint
            except MountError:
                continue
        return None

    def _renew(self) -> None:
        if self.connection.run(Parts.renew):
            self.notes.forget()

    def close(self) -> None:
        """End all jobs, and close what is open."""
        self.looking.close()
        self.jobs.close(_LAST_SECONDS)
        self.connection.close()


async def _forget_deleted(parts: Parts) -> None:
    await trio.to_thread.run_sync(parts.versions.dataset.cache.forget_deleted)
