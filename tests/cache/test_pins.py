"""Pins: what they hold, for every process, through crashes and damage; and that no eviction takes it away."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.cache.test_eviction import add_content, make, names
from vbnfs.cache import reserve
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.cache_disk import CacheDisk
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.pins import (
    FORMAT,
    Pin,
    PinnedFile,
    PinnedIds,
    are_there,
    check_name,
    let_go_of_what_was_before,
    pin_names,
    pinned_ids,
    pinned_sizes,
    read_pin,
    read_pins,
    remove_pin,
    store_pin,
)
from vbnfs.errors import PinError, UsageError
from vbnfs.host.disk_space import DiskSpace
from vbnfs.metrics import Metrics

MIB = 1 << 20
A, B, C = (f"{letter * 40}" for letter in "abc")


def pin(name: str, *contents: str, before: frozenset[str] = frozenset(), note: str = "") -> Pin:
    files = tuple(PinnedFile(f"folder/a file {one[:3]}.nwb", one, MIB, None) for one in contents)
    return Pin(name, note, "2026-11-30T01:00:00Z", "AWS b/p", "0.5.0", {"paths": ["."]}, files, before)


NAMES = st.from_regex(r"\w[\w.+-]{0,30}", fullmatch=True).filter(lambda name: len(os.fsencode(name)) < 240)
FILES = st.builds(
    PinnedFile,
    st.text(st.characters(blacklist_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), min_size=1).filter(
        lambda t: t.strip()
    ),
    st.text("0123456789abcdef", min_size=40, max_size=40),
    st.integers(0, 1 << 40),
    st.none() | st.text("0123456789abcdef", min_size=128, max_size=128),
)


@given(
    name=NAMES,
    note=st.text(),
    files=st.lists(FILES, max_size=5),
    before=st.frozensets(st.text("0123456789abcdef", min_size=40, max_size=40), max_size=3),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_stored_is_read(
    tmp_path: Path, name: str, note: str, files: list[PinnedFile], before: frozenset[str]
) -> None:
    """Any name that is allowed, any note, any files; and what is held is the files, and what was held before."""
    one = Pin(name, note, "now", "AWS b/p", "0.5.0", {"paths": ["x"], "lfp": None}, tuple(files), before)
    store_pin(tmp_path, one)
    assert read_pin(tmp_path, name) == one
    assert PinnedIds(tmp_path).now() >= {file.content_id for file in files} | before
    remove_pin(tmp_path, name)
    assert read_pin(tmp_path, name) is None
    assert pin_names(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".x", "a/b", "../a", "a b", "-x", "x" * 61, "a\n"])
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    """No name leaves the folder, hides its file, or is taken for an option."""
    with pytest.raises(UsageError, match="cannot name a pin"):
        check_name(name)
    with pytest.raises(UsageError):
        store_pin(tmp_path, pin(name, A))


def test_other_files_are_no_pins(tmp_path: Path) -> None:
    """Neither temporary ones nor links count, and there may be no folder."""
    assert not are_there(tmp_path)
    assert pin_names(tmp_path) == []
    store_pin(tmp_path, pin("one", A))
    (tmp_path / FORMAT / ".abc.new").write_text("x")
    (tmp_path / FORMAT / "two.txt").write_text("x")
    (tmp_path / FORMAT / "link.pin").symlink_to("one.pin")
    assert pinned_ids(tmp_path) == {A}
    assert are_there(tmp_path)
    assert [one.name for one in read_pins(tmp_path)[0]] == ["one"]


def test_what_is_held_follows_the_folder(tmp_path: Path) -> None:
    """What one process pins another one's eviction goes by at once; so it does when a pin is taken away."""
    held = PinnedIds(tmp_path)
    assert held.now() == set()
    store_pin(tmp_path, pin("one", A, B))
    store_pin(tmp_path, pin("two", B, before=frozenset({C})))
    assert held.now() == {A, B, C}
    assert pinned_sizes(tmp_path) == {A: MIB, B: MIB}
    remove_pin(tmp_path, "one")
    assert held.now() == {B, C}
    store_pin(tmp_path, pin("two", A))
    assert held.now() == {A}


def test_a_damaged_pin_holds_what_can_be_read(tmp_path: Path) -> None:
    """A line that is torn costs its file; a first line that is none costs what the pin was made for, and no file."""
    store_pin(tmp_path, pin("one", A, B))
    path = tmp_path / FORMAT / "one.pin"
    path.write_bytes(b"\0" * 20 + b"\n" + path.read_bytes().partition(b"\n")[2].replace(B.encode(), b"\xff" * 40))
    assert PinnedIds(tmp_path).now() == {A}
    with pytest.raises(PinError, match="its file is damaged; it still holds"):
        read_pin(tmp_path, "one")
    pins, [problem] = read_pins(tmp_path)
    assert pins == []
    assert "'vbnfs unpin one' takes it away" in str(problem)


def test_a_disk_that_does_not_answer_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folder, or a pin, cannot be read, what it held is held."""
    store_pin(tmp_path, pin("one", A))
    held = PinnedIds(tmp_path)
    assert held.now() == {A}

    def fail(*about: object) -> object:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "scandir", fail)
        assert held.now() == {A}
        with pytest.raises(PinError, match="pins cannot be read: Input/output error"):
            pin_names(tmp_path)
    store_pin(tmp_path, pin("one", B))
    with monkeypatch.context() as failing:
        failing.setattr("vbnfs.host.places.Place.read_bytes", fail)
        assert held.now() == {A}
    assert held.now() == {B}


def test_pins_that_were_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not know what is pinned evicts and deletes nothing, takes no more when full, and says so.

    As soon as it can read the pins, it evicts all else.
    """
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    store_pin(tmp_path, pin("one", "ab0"))
    (tmp_path / FORMAT).rename(tmp_path / "elsewhere")
    (tmp_path / FORMAT).write_text("")
    evictor = make(tmp_path, 2 * MIB)
    disk = CacheDisk(BlockCache(tmp_path, scope="aws", metrics=Metrics()), evictor)

    def nothing_goes(words: str) -> None:
        assert not evictor.make_room(MIB)
        evictor.not_written(MIB)
        assert evictor.victims() == []
        disk.check_now()
        assert words in (disk.problem or "")
        assert "so nothing is evicted" in (disk.problem or "")
        with pytest.raises(PinError, match="so nothing is deleted: make the folder pins-v1"):
            pinned_ids(tmp_path)
        assert names(tmp_path) == ["ab0", "ab1", "ab2", "ab3"]

    nothing_goes("pins cannot be read: Not a directory")
    (tmp_path / FORMAT).unlink()
    (tmp_path / "elsewhere").rename(tmp_path / FORMAT)

    def fail(*about: object) -> object:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr("vbnfs.host.places.Place.read_bytes", fail)
        for _ in range(2):
            nothing_goes("pin one: cannot be read: Input/output error")
    disk.check_now()
    assert (disk.problem, names(tmp_path)) == (None, ["ab0"])
    assert pinned_ids(tmp_path) == {"ab0"}


def test_a_process_that_is_killed_leaves_one_pin_or_the_other(tmp_path: Path) -> None:
    """Whenever it dies, what stands there is a whole pin: it holds all that it named, or what it held before."""
    store_pin(tmp_path, pin("one", A))
    script = (
        "import sys; from pathlib import Path; from tests.cache.test_pins import *\n"
        "print(flush=True)\n"
        "while True:\n"
        "    store_pin(Path(sys.argv[1]), pin('one', *[f'{n:040x}' for n in range(3000)]))\n"
        "    store_pin(Path(sys.argv[1]), pin('one', A))\n"
    )
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(50):
            assert len(PinnedIds(tmp_path).now()) in {1, 3000}
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert len(PinnedIds(tmp_path).now()) in {1, 3000}
        assert read_pin(tmp_path, "one") is not None


def test_no_change_is_lost(tmp_path: Path) -> None:
    """Two processes that change a pin at the same time do it one after the other: both changes are there."""
    script = (
        "import sys; from pathlib import Path; from tests.cache.test_pins import *\n"
        "from vbnfs.cache.pins import change_pin\n"
        "print(flush=True); sys.stdin.readline()\n"
        "for number in range(int(sys.argv[2]), int(sys.argv[2]) + 40):\n"
        "    more = f'{number:040x}'\n"
        "    change_pin(Path(sys.argv[1]), 'one', lambda now: pin('one', *(now.sizes if now else ()), more))\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path, first], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for first in ("0", "1000")
    ]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in both:
        process.communicate("\n")
    assert [process.returncode for process in both] == [0, 0]
    assert len(PinnedIds(tmp_path).now()) == 80


def test_the_end_of_an_update_changes_only_what_it_stored(tmp_path: Path) -> None:
    """What was before is let go of; but not of a pin that was taken away or made anew meanwhile, nor of another's."""
    stored = pin("one", A, before=frozenset({B}))
    store_pin(tmp_path, stored)
    let_go_of_what_was_before(tmp_path, stored)
    assert read_pin(tmp_path, "one") == pin("one", A)
    remove_pin(tmp_path, "one")
    let_go_of_what_was_before(tmp_path, stored)
    assert pin_names(tmp_path) == []
    for other in (pin("one", C, before=frozenset({A, B})), pin("one", A, before=frozenset({B, C}))):
        store_pin(tmp_path, other)
        let_go_of_what_was_before(tmp_path, stored)
        assert PinnedIds(tmp_path).now() == {A, B, C}


def test_a_process_that_hangs_with_the_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change waits for it for a while; then it says so, and changes nothing."""
    store_pin(tmp_path, pin("one", A))
    monkeypatch.setattr("vbnfs.cache.pins._PATIENCE_SECONDS", 0.0)
    with (tmp_path / FORMAT / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for change in (lambda: store_pin(tmp_path, pin("one", B)), lambda: remove_pin(tmp_path, "one")):
            with pytest.raises(PinError, match="pin one: another vbnfs is changing pins"):
                change()
    assert PinnedIds(tmp_path).now() == {A}


def test_the_reserve_takes_nothing_that_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others fill the disk, all else goes, and what is pinned stays."""
    for number in range(4):
        add_content(tmp_path, f"ab{number}", MIB, used=number)
    store_pin(tmp_path, pin("one", "ab1"))
    monkeypatch.setattr(reserve, "space_of", lambda directory: DiskSpace(0, 1 << 30, False))
    evictor = Evictor(tmp_path, limit_bytes=100 * MIB, reserve_bytes=50 * MIB, metrics=Metrics())
    evictor.keep_reserve()
    assert names(tmp_path) == ["ab1"]
    assert not evictor.make_room(MIB)


class PinsAndEviction(RuleBasedStateMachine):
    """Contents come, are pinned, unpinned and evicted, in any order, by evictors of several sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.cache = Path(self.folder.name) / "cache"
        self.cache.mkdir(mode=0o700)
        self.there: set[str] = set()
        self.pins: dict[str, set[str]] = {}
        self.evictors = {limit: make(self.cache, limit * MIB) for limit in (1, 3, 6)}

    def teardown(self) -> None:
        self.folder.cleanup()

    def held(self) -> set[str]:
        return set().union(*self.pins.values())

    @rule(number=st.integers(0, 9), used=st.integers(1, 1000))
    def come(self, number: int, used: int) -> None:
        """A content comes, or is there."""
        name = f"ab{number}"
        if name not in self.there:
            add_content(self.cache, name, MIB, used=used, kind="partial" if number % 2 else "whole")
            self.there.add(name)

    @rule(name=st.sampled_from(["p", "q"]), numbers=st.sets(st.integers(0, 9), max_size=4))
    def pin(self, name: str, numbers: set[int]) -> None:
        """Contents are pinned, whether they are there or not."""
        contents = {f"ab{number}" for number in numbers}
        store_pin(self.cache, pin(name, *sorted(contents)))
        self.pins[name] = contents

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        """A pin is taken away."""
        name = data.draw(st.sampled_from(sorted(self.pins)))
        remove_pin(self.cache, name)
        del self.pins[name]

    @rule(limit=st.sampled_from([1, 3, 6]))
    def evict(self, limit: int) -> None:
        """What is pinned stays; all else fits, or nothing else is left."""
        before, evictor = set(names(self.cache)), self.evictors[limit]
        evictor.scan_and_evict()
        left = set(names(self.cache))
        assert before & self.held() <= left
        assert evictor.kept_bytes == len(left & self.held()) * MIB
        assert len(left) <= max(limit, len(left & self.held()))
        self.there = left

    @invariant()
    def nothing_pinned_is_gone(self) -> None:
        """Between evictions nothing goes at all."""
        assert set(names(self.cache)) == self.there


TestPinsAndEviction = PinsAndEviction.TestCase
TestPinsAndEviction.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
