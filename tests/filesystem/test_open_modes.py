"""How an inode is opened, against a model of the kernel's rules: no open(2) fails because ways are mixed."""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vbnfs.filesystem.open_modes import OpenModes
from vbnfs.fuse.operations import Backing

INODES = (1, 2)


@dataclass
class KernelInode:
    """`struct fuse_inode` as far as fs/fuse/iomode.c goes by it."""

    counter: int = 0  # iocachectr: above 0 files that the daemon reads, below 0 files that the kernel reads
    backing: Backing | None = None

    def open(self, backing: Backing | None) -> bool:
        """`fuse_file_io_open`; False: EIO."""
        if backing is None:
            if self.backing is not None or self.counter < 0:
                return False
            self.counter += 1
            return True
        if self.backing not in (None, backing) or self.counter > 0:
            return False
        self.counter -= 1
        self.backing = backing
        return True

    def release(self, backing: Backing | None) -> None:
        """`fuse_file_io_release`."""
        self.counter += 1 if backing is not None else -1
        if self.counter == 0:
            self.backing = None


@dataclass
class Kernel:
    """Files of the mount, from the answer to OPEN to the daemon's RELEASE, which wait for their turn in any order."""

    inodes: dict[int, KernelInode] = field(default_factory=lambda: {inode: KernelInode() for inode in INODES})
    numbers: set[Backing] = field(default_factory=set)  # that BACKING_OPEN has given
    answered: list[tuple[int, Backing | None]] = field(default_factory=list)
    opened: list[tuple[int, Backing | None]] = field(default_factory=list)
    released: list[tuple[int, Backing | None]] = field(default_factory=list)


class OpenModesMachine(RuleBasedStateMachine):
    """The daemon answers OPENs and gets RELEASEs, the kernel takes the answers and closes files."""

    def __init__(self) -> None:
        super().__init__()
        self.modes = OpenModes()
        self.kernel = Kernel()
        self.last = 0

    @rule(inode=st.sampled_from(INODES), could_be_passed=st.booleans())
    def open(self, inode: int, could_be_passed: bool) -> None:
        if self.modes.is_condemned(inode):
            return
        offered = None
        if could_be_passed:
            self.last += 1
            offered = Backing(self.last)
            self.kernel.numbers.add(offered)
        taken = self.modes.open(inode, offered)
        if offered is not None and taken != offered:
            self.kernel.numbers.discard(offered)  # given back at once
        self.kernel.answered.append((inode, taken))

    @precondition(lambda self: self.kernel.answered)
    @rule(data=st.data())
    def take_answer(self, data: st.DataObject) -> None:
        inode, backing = self._one_of(self.kernel.answered, data)
        assert backing is None or backing in self.kernel.numbers
        assert self.kernel.inodes[inode].open(backing), "open(2) fails with EIO"
        self.kernel.opened.append((inode, backing))

    @precondition(lambda self: self.kernel.opened)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        inode, backing = self._one_of(self.kernel.opened, data)
        self.kernel.inodes[inode].release(backing)
        self.kernel.released.append((inode, backing))

    @precondition(lambda self: self.kernel.released)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        inode, backing = self._one_of(self.kernel.released, data)
        unused = self.modes.release(inode)
        if unused is not None:
            assert unused == backing
            self.kernel.numbers.remove(unused)

    @rule(inode=st.sampled_from(INODES))
    def condemn(self, inode: int) -> None:
        self.modes.condemn(inode)

    @invariant()
    def nothing_is_lost(self) -> None:
        """A number is kept as long as a file has it, and no longer; an inode without files is as at first."""
        files = [*self.kernel.answered, *self.kernel.opened, *self.kernel.released]
        assert self.kernel.numbers == {backing for _, backing in files if backing is not None}
        for inode in INODES:
            assert self.modes.is_open(inode) == any(one == inode for one, _ in files)
            assert {self.modes.backing_of(inode)} >= {backing for one, backing in files if one == inode}
            assert not self.modes.is_condemned(inode) or self.modes.backing_of(inode) is not None

    @staticmethod
    def _one_of(files: list[tuple[int, Backing | None]], data: st.DataObject) -> tuple[int, Backing | None]:
        return files.pop(data.draw(st.integers(0, len(files) - 1)))


TestOpenModes = OpenModesMachine.TestCase


def test_a_condemned_inode() -> None:
    """Nothing is opened beside files that the kernel reads from what proved wrong; when they are closed, all is anew.

    Files that the daemon reads are not concerned: it refuses their reads itself.
    """
    modes = OpenModes()
    modes.condemn(1)
    modes.open(1)
    modes.condemn(1)
    assert not modes.is_condemned(1)
    modes.open(2, Backing(5))
    modes.condemn(2)
    assert modes.is_condemned(2)
    assert modes.release(2) == Backing(5)
    assert not modes.is_condemned(2)
    assert modes.open(2) is None
