"""What the page shows: the dataset as a process has it open, its tables, and the mounts that have it.

Views are functions that run in threads of the server, and reach the event loop of access/ by the door that Python's
API has. Values that never change are kept; what the cache has of them is looked up for each answer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from vbnfs.access.here import Here
from vbnfs.access.mount_status import ask_status
from vbnfs.access.running_mounts import shows_dataset_of
from vbnfs.access.versions import Versions
from vbnfs.api.connection import Connection
from vbnfs.api.dataset import Dataset
from vbnfs.config.settings import Config
from vbnfs.errors import MountError
from vbnfs.host import mountinfo
from vbnfs.host.identity import our_uid

_ANSWER_SECONDS: Final = 1.0

AskStatus = Callable[[mountinfo.MountEntry], Mapping[str, Any]]


def _ask(entry: mountinfo.MountEntry) -> Mapping[str, Any]:
    return ask_status(entry, seconds=_ANSWER_SECONDS)


class House:
    """A dataset for the page. Thread-safe."""

    def __init__(self, config: Config, *, ask: AskStatus = _ask) -> None:
        self.connection: Final = Connection(config)
        self.dataset: Final = Dataset.on(self.connection)
        self._ask = ask

    @property
    def config(self) -> Config:
        """The settings that hold."""
        return self.connection.config

    @property
    def versions(self) -> Versions:
        """The dataset's versions. Raises a `VbnfsError` where there are none to be had."""
        return self.connection.value.versions

    def here(self) -> Here:
        """What the cache has now."""
        return Here.of(self.config)

    def mountpoint(self) -> Path | None:
        """Where one of the user's mounts shows this dataset; None where none does."""
        for entry in mountinfo.list_mounts():
            if entry.owner != our_uid():
                continue
            try:
                if shows_dataset_of(self._ask(entry), self.config):
                    return entry.mountpoint
            except MountError:
                continue
        return None

    def close(self) -> None:
        """Close what is open."""
        self.connection.close()
