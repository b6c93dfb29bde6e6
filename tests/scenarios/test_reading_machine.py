"""The whole reading floor against plain bytes: whatever happens to cache and network, no byte is ever wrong.

Hypothesis makes up lives of one cache directory: two mounts read from it (and write to it) while contents are
evicted, made whole, imported, cut short, damaged and swapped, the server fails in all its ways, another mount is
killed in mid-write, files come wrong and are found out, mounts are restarted and the network comes and goes. Verified
blocks are trusted by the process that verified them, so bytes are changed only while no mount runs; evicting and
cutting short happen under running mounts.
"""

import hashlib
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fakes.cache_files import (
    FILES,
    allocated_bytes,
    folder_of,
    place_of,
    remove_content,
    unfinished_folders,
)
from tests.fakes.client import MemoryClient
from tests.fakes.damage import FOLDER_KINDS, KINDS, damage_content
from tests.fakes.faults import FAULTS, Damaged
from tests.fakes.s3_server import FakeS3Server, Reply, Request, always, error, for_kind, header, in_turn
from tests.fakes.store import MemoryStore
from tests.reading.bench import KIB, MIB, bench
from tests.scenarios.reading_machine import (
    LIMIT_BYTES,
    MOUNTS,
    PLAIN,
    SIZES,
    Loop,
    fill,
    import_file,
    read_until_killed,
)
from vbnfs.blocks import BLOCK_BYTES, digest
from vbnfs.cache.content_folder import CHECKSUMS, DATA, FORMAT, HEADER_BYTES, WHOLE, Shape
from vbnfs.cache.digests import DigestSet
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.verdict import Verdict, is_good
from vbnfs.cache.verdicts import Verdicts
from vbnfs.errors import HashMismatchError, StorageError
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion

SLOW: Final = {
    *("body stalls", "body trickles", "head trickles", "interim replies", "no answer"),
    *("429 with Retry-After", "redirect"),
}  # seconds each; the last does not pass
LOST: Final = {
    "404": always(error(404, "NoSuchVersion")),
    "403": always(error(403, "AccessDenied")),
    "another version": FAULTS["another version"],
    "another size": header(Content_Range="bytes 0-0/123456789"),
}
THEIRS: Final = b"theirs" * 100_000
NOISE: Final = random.Random("victim").randbytes(max(SIZES))
PLANTS: Final[dict[str, Callable[[Path, Path], object]]] = {
    "nothing": lambda path, victim: None,
    "a link to what others have": lambda path, victim: path.symlink_to(victim),
    "a pipe": lambda path, victim: os.mkfifo(path),
    "a folder": lambda path, victim: path.mkdir(),
}
DIGESTS: Final = [
    DigestSet(
        hashlib.blake2b(data).hexdigest(),
        len(data),
        b"".join(digest(data[start : start + BLOCK_BYTES]) for start in range(0, len(data), BLOCK_BYTES)),
    )
    for data in PLAIN
]
PAGE_BYTES: Final = 4096  # of the disk: those of a table of records
MOST_FAULTS: Final = 4  # in a row for one range: as many as are tried again whatever they are

files = st.integers(0, len(SIZES) - 1)
mounts = st.integers(0, MOUNTS - 1)
where = st.floats(0, 1, exclude_max=True)


def files_of_theirs(model: Path, theirs: Path) -> list[Path]:
    """Another user's files with the names of the cache's, so old that they would be evicted first."""
    theirs.mkdir()
    for file in (files := [theirs / file.relative_to(model) for name in FILES for file in model.rglob(name)]):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(THEIRS)
        os.utime(file, (1, 1))
    return files


def remove(path: Path) -> None:
    """Whatever it is, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class ReadingMachine(RuleBasedStateMachine):
    """Rules are what happens; the plain bytes are what must come."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="vbnfs-machine-"))
        self.loop = Loop(self.directory)
        self.is_offline = False

    def teardown(self) -> None:
        try:
            self.go_online()
            self.loop.server.behaviours.clear()
            for number, plain in enumerate(PLAIN):
                self.check(0, 0, number, 0, len(plain) + 1)
        finally:
            self.loop.join()
            self.look()
            left = unfinished_folders(self.directory)
            shutil.rmtree(self.directory)
        assert not left, "what the dead left unfinished outlived the next start"

    def folder(self, number: int) -> Path:
        return folder_of(self.directory, self.loop.contents[number].content_id, scope="test")

    def remove(self, number: int) -> None:
        remove_content(self.directory, self.loop.contents[number].content_id, scope="test")

    def look(self) -> None:
        """As a daemon does when it starts."""
        Evictor(self.directory, limit_bytes=LIMIT_BYTES, metrics=Metrics()).scan_and_evict()

    def check(self, mount: int, handle: int, number: int, offset: int, size: int) -> None:
        try:
            data = self.loop.run(self.loop.read, mount, handle, number, offset, size)
        except StorageError:
            assert self.is_offline, "a read failed while the network was there"
        else:
            assert data == PLAIN[number][offset : offset + size]

    @initialize(number=files)
    def begin_with_something(self, number: int) -> None:
        self.check(0, 0, number, 0, SIZES[number])

    @rule(mount=mounts, handle=st.integers(0, 1), number=files, at=where, size=st.integers(0, 700_000))
    def read(self, mount: int, handle: int, number: int, at: float, size: int) -> None:
        self.check(mount, handle, number, int(at * (SIZES[number] + 10)), size)

    @rule(mount=mounts, number=files, step=st.sampled_from([4 * KIB * 9, 128 * KIB, MIB]))
    def read_in_a_row(self, mount: int, number: int, step: int) -> None:
        for offset in range(0, SIZES[number], step):
            self.check(mount, 2, number, offset, step)

    @rule(number=files)
    def read_side_by_side(self, number: int) -> None:
        """All mounts at once, several requests each."""
        answers: list[tuple[int, bytes]] = []

        async def read(mount: int, offset: int) -> None:
            try:
                answers.append((offset, await self.loop.read(mount, 3, number, offset, 300_000)))
            except StorageError:
                assert self.is_offline

        async def all_at_once() -> None:
            async with trio.open_nursery() as nursery:
                for mount in range(MOUNTS):
                    for offset in range(0, SIZES[number], 250_000):
                        nursery.start_soon(read, mount, offset)

        self.loop.run(all_at_once)
        assert all(data == PLAIN[number][offset : offset + 300_000] for offset, data in answers)

    @rule()
    def go_offline(self) -> None:
        """Connections break and new ones are refused, until the mounts have found out."""
        self.is_offline = True
        self.loop.lose_network()

    @rule()
    def go_online(self) -> None:
        self.loop.run(self.loop.settle)  # what fails, fails before
        self.loop.find_network()
        self.is_offline = False

    @rule(
        mount=mounts,
        number=files,
        order=st.permutations(sorted(FAULTS.keys() - SLOW)),
    )
    def fail(self, mount: int, number: int, order: list[str]) -> None:
        """The next ranges are answered with faults, in some order: what is fetched is right all the same."""
        self.fetch_all_anew(number)
        faults = [FAULTS[name] for name in order[:MOST_FAULTS]]
        self.loop.server.behaviours[:] = [for_kind("get_range", in_turn(*faults))]
        self.check(mount, 0, number, 0, SIZES[number])

    @rule(number=files, change=st.integers(1, 60), part=where)
    def kill(self, number: int, change: int, part: float) -> None:
        """Another mount on the cache gets SIGKILL, in mid-write, in mid-eviction, or wherever it is."""
        status = read_until_killed(self.directory, self.loop.server.endpoint_url, number, change, part)
        assert status in {0, -signal.SIGKILL}
        self.check(0, 1, number, 0, SIZES[number])

    @rule(mount=mounts, number=files, fetch=st.booleans())
    def verify(self, mount: int, number: int, fetch: bool) -> None:
        """Whole files have their hash, always; without the network what is here can be hashed."""
        try:
            verdict = self.hash(mount, number, fetch=fetch)
        except StorageError:
            assert fetch
            assert self.is_offline
        else:
            assert verdict is not None or not fetch
            assert verdict is None or is_good(self.loop.contents[number], verdict)

    @precondition(lambda machine: not machine.is_offline)
    @rule(
        mount=mounts,
        number=files.filter(lambda number: SIZES[number] > 0),
        at=where,
        times=st.sampled_from([1, 1000]),
        with_digests=st.booleans(),
    )
    def come_wrong(self, mount: int, number: int, at: float, times: int, with_digests: bool) -> None:
        """A byte is wrong in a reply that is right in all its figures: digests tell, or the whole file's hash.

        It may be the object that is wrong, each time; then another source has the right bytes.
        """
        self.fetch_all_anew(number)
        content = self.loop.contents[number]
        key = self.first_source(number).key
        if with_digests:
            self.loop.floors[mount].digests.keep_proven(DIGESTS[number])
        else:
            self.forget_digests(number)
        self.loop.server.behaviours[:] = [Damaged(key, at=int(at * SIZES[number]), times=times)]
        if with_digests:
            self.check(mount, 4, number, 0, SIZES[number])
            return
        for offset in range(0, SIZES[number], MIB):
            self.loop.run(self.loop.read, mount, 4, number, offset, MIB)  # nobody can know yet
        self.loop.run(self.loop.settle)
        verdict = self.hash(mount, number, fetch=False)
        if verdict is None:  # evicted in part, before it was complete
            self.loop.server.behaviours.clear()
            self.fetch_all_anew(number)
            return
        assert not is_good(content, verdict)
        for one in range(MOUNTS):
            self.loop.run(self.loop.floors[one].verifier.refresh)
            with pytest.raises(HashMismatchError):
                self.loop.run(self.loop.read, one, 4, number, 0, 1)
        assert not self.folder(number).exists()
        verdict = self.hash(mount, number, fetch=True)
        assert verdict is not None
        assert is_good(content, verdict)
        for one in range(MOUNTS):
            self.loop.run(self.loop.floors[one].verifier.refresh)
            self.check(one, 4, number, 0, SIZES[number])

    @precondition(lambda machine: not machine.is_offline)
    @rule(mount=mounts, number=files, fault=st.sampled_from(sorted(LOST)))
    def lose_a_source(self, mount: int, number: int, fault: str) -> None:
        """The object that is asked first is gone, forbidden, or another one: the next one is read."""
        self.fetch_all_anew(number)
        key = self.first_source(number).key

        def lose(request: Request, honest: Reply) -> Reply | None:
            return LOST[fault](request, honest) if request.key == key else None

        self.loop.server.behaviours[:] = [lose]
        self.check(mount, 0, number, 0, SIZES[number])

    def first_source(self, number: int) -> ObjectVersion:
        """The source that a mount which begins now asks first."""
        content = self.loop.contents[number]
        good = self.loop.floors[0].verdicts.good(content)
        return next((s for s in content.sources if good is not None and str(s) == good.source), content.source)

    def hash(self, mount: int, number: int, *, fetch: bool) -> Verdict | None:
        verifier = self.loop.floors[mount].verifier
        verdict: Verdict | None = self.loop.run(partial(verifier.verify, fetch=fetch), self.loop.contents[number])
        return verdict

    def fetch_all_anew(self, number: int) -> None:
        """Have nobody know anything of a content."""
        self.loop.run(self.loop.unmount)
        self.remove(number)
        self.loop.run(self.loop.mount)

    def forget_digests(self, number: int) -> None:
        """Have no mount know what the blocks of a content have to be."""
        self.loop.run(self.loop.unmount)
        shutil.rmtree(self.directory / "digests-v1", ignore_errors=True)
        self.loop.run(self.loop.mount)

    @rule(mount=mounts, number=files)
    def make_whole(self, mount: int, number: int) -> None:
        """A mount gives a content that is complete its place among the whole ones, at any moment."""
        content, cache = self.loop.contents[number], self.loop.floors[mount].cache
        is_whole = self.loop.run(trio.to_thread.run_sync, cache.complete, content)
        whole = place_of(self.directory, content.content_id, scope="test", kind=WHOLE)
        assert is_whole <= whole.exists()
        descriptor = cache.open_whole(content)
        # Where a neighbour has taken its checksums it counts as whole no more, but its bytes can be opened.
        assert is_whole <= (descriptor is not None) <= whole.exists()
        if descriptor is not None:
            assert os.fstat(descriptor).st_size == SIZES[number]
            os.close(descriptor)

    @rule(number=files, flaw=st.sampled_from([None, None, "wrong byte", "cut short", "given up"]), at=where)
    def adopt(self, number: int, flaw: str | None, at: float) -> None:
        """Another process imports a file under running mounts: the content is whole, or nothing has happened."""
        original, place, content = bytearray(PLAIN[number]), int(at * SIZES[number]), self.loop.contents[number]
        if flaw == "wrong byte" and original:
            original[place] ^= 1
        elif flaw == "cut short":
            del original[place:]
        unfinished = set(unfinished_folders(self.directory))  # of others, which were killed
        is_taken = import_file(self.directory, content, original, gives_up=flaw == "given up")
        assert is_taken == (original == PLAIN[number] and flaw != "given up")
        assert set(unfinished_folders(self.directory)) <= unfinished
        if is_taken:
            assert place_of(self.directory, content.content_id, scope="test", kind=WHOLE).exists()
            good = Verdicts(self.directory, scope="test").good(content)
            assert good is not None
            assert is_good(content, good)
        for mount in range(MOUNTS):
            self.check(mount, 6, number, 0, SIZES[number])

    @rule(number=files, what=st.sampled_from(["all", *FILES]))
    def evict(self, number: int, what: str) -> None:
        """Another process deletes a content, at any moment, or somebody one of its files."""
        if what == "all":
            self.remove(number)
        else:
            (self.folder(number) / what).unlink(missing_ok=True)

    @rule(mount=mounts, number=files, name=st.sampled_from(FILES), length=where)
    def cut_short(self, mount: int, number: int, name: str, length: float) -> None:
        """Somebody truncates a content that mounts have open and verified; they go on reading, the end first."""
        for _ in range(2):  # from S3, and from the disk, where it is verified
            self.check(mount, 0, number, 0, SIZES[number])
            self.loop.run(self.loop.settle)
        with suppress(FileNotFoundError), open(self.folder(number) / name, "r+b") as file:
            file.truncate(int(length * file.seek(0, os.SEEK_END)))
        for offset in reversed(range(0, SIZES[number], BLOCK_BYTES)):
            self.check(mount, 0, number, offset, BLOCK_BYTES)
            self.loop.run(self.loop.settle)

    @rule(
        mount=mounts, number=files, what=st.sampled_from(["content", "folder", "kind", "all"]), is_link=st.booleans()
    )
    def take_its_place(self, mount: int, number: int, what: str, is_link: bool) -> None:
        """A neighbour renames a folder of the cache away under the mounts; a link may lead to one of theirs then.

        Nothing in that is read, changed or deleted. What was taken comes back in the end.
        """
        folder = self.folder(number)
        places = {"content": folder, "folder": folder.parent, "kind": folder.parents[1]}
        path = places.get(what, self.directory / FORMAT)
        away, theirs = self.directory / "away", self.directory / "theirs"
        if not path.exists():
            return
        path.rename(away)
        if is_link:
            path.symlink_to(theirs)
        files = files_of_theirs(away, theirs)
        for _ in range(2):  # those who have files open, and those who begin
            for one, size in enumerate(SIZES):
                self.check(mount, 0, one, 0, size)
            self.restart()
        Evictor(self.directory, limit_bytes=BLOCK_BYTES, metrics=Metrics()).scan_and_evict()
        assert sorted(one for one in theirs.rglob("*") if one.is_file()) == sorted(files)
        assert [file.read_bytes() for file in files] == [THEIRS] * len(files)
        self.loop.run(self.loop.unmount)
        remove(path)
        remove(theirs)
        away.rename(path)
        self.look()
        self.loop.run(self.loop.mount)

    @rule(number=files, name=st.sampled_from(["", *FILES]), kind=st.sampled_from(sorted(PLANTS)))
    def plant(self, number: int, name: str, kind: str) -> None:
        """A neighbour puts something else in the place of a content or of one of its files, under running mounts.

        All is read as ever, nothing waits, and what a link leads to stays as it is.
        """
        theirs, renamed = self.directory / "theirs", self.directory / "renamed"
        lengths = {DATA: SIZES[number], CHECKSUMS: Shape(SIZES[number]).checksums_bytes}
        theirs.mkdir()
        for file, length in lengths.items():
            (theirs / file).write_bytes(NOISE[:length])
        path = self.folder(number) / name  # the folder itself, if there is no name
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.rename(renamed)
        try:
            PLANTS[kind](path, theirs / name)
            for mount in range(MOUNTS):
                self.check(mount, 5, number, 0, SIZES[number])
            self.loop.run(self.loop.settle)
            assert {one.name: one.read_bytes() for one in theirs.iterdir()} == {
                file: NOISE[:length] for file, length in lengths.items()
            }
        finally:
            set_aside = [folder / name for folder in unfinished_folders(self.directory)] if name else []
            for left in (path, theirs, renamed, *set_aside):
                remove(left)

    @rule()
    def restart(self) -> None:
        self.loop.run(self.loop.unmount)
        self.loop.run(self.loop.mount)

    @rule(
        number=files,
        other=files,
        at=where,
        kind=st.sampled_from(KINDS + FOLDER_KINDS),
        seed=st.integers(0, 1 << 16),
    )
    def restart_with_damage(self, number: int, other: int, at: float, kind: str, seed: int) -> None:
        """While nothing runs, the disk, a crash or a person changes what is in the cache."""
        self.loop.run(self.loop.unmount)
        folders = self.folder(number), self.folder(other)
        if all(folder.exists() for folder in folders):
            damage_content(*folders, at, kind, seed)
            # Foreign bytes take room that holes did not: a daemon looks when it starts.
            self.look()
        self.loop.run(self.loop.mount)
        for one in (number, other):
            self.check(seed % MOUNTS, 1, one, 0, SIZES[one])

    @invariant()
    def the_cache_keeps_within_its_size(self) -> None:
        self.loop.run(self.loop.settle)
        assert allocated_bytes(self.directory) <= LIMIT_BYTES + MOUNTS * (BLOCK_BYTES + PAGE_BYTES)


# What a kill in a call leaves behind, by its name and number, with half or a quarter of it done: is the content
# there, which files has the folder that was being made or deleted (None: there is none), how many of the block's
# bytes are there, and is there a record.
FIRST_READ: Final = {
    ("mkdir", 5, 0.5): (False, set(), 0, False),
    ("ftruncate", 1, 0.25): (False, {DATA}, 0, False),
    ("ftruncate", 2, 0.5): (False, {DATA, CHECKSUMS}, 0, False),
    ("rename", 1, 0.25): (False, {DATA, CHECKSUMS}, 0, False),
    ("rename", 1, 0.5): (True, None, 0, False),
    ("pwritev", 1, 0.5): (True, None, BLOCK_BYTES // 2, False),
    ("pwrite", 1, 0.5): (True, None, 0, False),  # of its history, for eviction
    ("pwritev", 2, 0.5): (True, None, BLOCK_BYTES, True),
}
EVICTION: Final = {  # of the content that was read first
    ("unlink", 1, 0.25): (False, {DATA, CHECKSUMS}, 0, False),
    ("unlink", 1, 0.5): (False, {DATA}, 0, False),
    ("unlink", 2, 0.5): (False, set(), 0, False),
    ("rmdir", 1, 0.25): (False, set(), 0, False),
    ("rmdir", 1, 0.5): (False, None, 0, False),
}
LEFT: Final = FIRST_READ | EVICTION


@pytest.mark.parametrize(("change", "count", "part"), LEFT)
async def test_a_kill_in_each_change_of_the_cache(tmp_path: Path, change: str, count: int, part: float) -> None:
    """SIGKILL meets each call that changes the cache, half done; the next mount knows, and reads what is right."""
    number = SIZES.index(BLOCK_BYTES)
    with FakeS3Server(MemoryStore()) as server:
        content = fill(server.store)[number]
        status = await trio.to_thread.run_sync(
            partial(read_until_killed, tmp_path, server.endpoint_url, number, count, part, changes=[change])
        )
        assert status == -signal.SIGKILL
        assert what_is_left(tmp_path, content) == LEFT[change, count, part]
        Evictor(tmp_path, limit_bytes=LIMIT_BYTES, metrics=Metrics()).scan_and_evict()
        assert unfinished_folders(tmp_path) == []
        async with bench(tmp_path, client=MemoryClient(server.store)) as floor:
            for _ in range(2):
                assert await floor.open(content).read(0, BLOCK_BYTES) == PLAIN[number]
                await floor.settled()
            assert floor.metrics.corrupt_blocks == ((change, count) == ("pwritev", 2))
            assert floor.client.count("get_range") == 1


def what_is_left(cache: Path, content: Content) -> tuple[bool, set[str] | None, int, bool]:
    """See `LEFT`."""
    folder = folder_of(cache, content.content_id, scope="test")
    data, checksums = ((folder / name).read_bytes() if folder.exists() else b"" for name in FILES)
    block = data.rstrip(b"\0")
    assert PLAIN[SIZES.index(content.size_bytes)].startswith(block)
    names = [{path.name for path in unfinished.iterdir()} for unfinished in unfinished_folders(cache)]
    return folder.exists(), names[0] if names else None, len(block), any(checksums[HEADER_BYTES:])


TestReadingMachine = ReadingMachine.TestCase
TestReadingMachine.__doc__ = "Every byte that any mount answers, in any life of the cache, is the plain byte."
TestReadingMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
