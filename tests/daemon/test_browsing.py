"""How often the table of sessions is read for the folders below `by`."""

from collections.abc import Callable, Sequence
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from tests.dataset.build import manifest
from vbnfs.daemon.browsing import Browsing
from vbnfs.daemon.mounted_versions import MountedVersions
from vbnfs.dataset.browsing import folders_of, table_of
from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.manifest import DataFile
from vbnfs.dataset.tree import Tree

DAY_SECONDS = 86_400
MANIFEST = manifest("1.0.0", {"project_metadata/ecephys_sessions.csv": "no such table: \0", "b/7/s.nwb": "7"})


class OneVersion:
    """What a mount of one manifest shows. It counts how often its table is made folders of."""

    table = table_of(MANIFEST)

    def __init__(self) -> None:
        self.browsed = 0

    def content_of(self, file: DataFile) -> NamedContent:
        """The table: nothing else is asked for."""
        return cast(NamedContent, file)

    async def browse(self, table: bytes, show: Callable[[Tree, Sequence[int]], None]) -> None:
        """Make the folders, and fail in the way that they do."""
        self.browsed += 1
        if folders_of(MANIFEST, table) == {}:
            raise ValueError("no rows")


@pytest.mark.parametrize(
    ("data", "most_reads", "browsed"), [(b"no such table: \0", 1, 1), (b"other bytes than the manifest's", 200, 0)]
)
def test_a_table_that_fails_is_not_read_again_and_again(data: bytes, most_reads: int, browsed: int) -> None:
    """In a day a table that is none is read once; one of wrong bytes, which others may replace, every ten minutes."""
    shown, reads = OneVersion(), list[NamedContent]()

    async def read_cached(named: NamedContent) -> bytes | None:
        reads.append(named)
        return data

    async def main() -> None:
        browsing = Browsing(cast(MountedVersions, shown))
        browsing.look()
        with trio.move_on_after(DAY_SECONDS):
            await browsing.run(read_cached, lambda tree, inodes: None)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert 1 <= len(reads) <= most_reads
    assert shown.browsed == browsed
