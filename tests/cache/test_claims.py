"""Claims on blocks between processes, on real files. Two `Claims` of one process are as strange to each other."""

import itertools
import subprocess
import sys
from pathlib import Path

from vbnfs.cache.claims import LANES, Claims, _position

OTHER_PROCESS = """
import sys
from pathlib import Path
from vbnfs.cache.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.take("a", range(4)), flush=True)
sys.stdin.read()
"""


def test_a_block_is_claimed_once(tmp_path: Path) -> None:
    """What one has claimed another does not get, until it is given back; adjacent blocks, other contents are free."""
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a", range(10, 20)) == list(range(10, 20))
    assert other.take("a", range(8, 22)) == [8, 9, 20, 21]
    assert other.take("b", range(10, 20)) == list(range(10, 20))
    one.drop("a", [12, 13])
    assert other.take("a", range(10, 20)) == [12, 13]


def test_a_second_lane(tmp_path: Path) -> None:
    """A process that waited too long claims in the other lane; one has that, too. Giving back is for both lanes."""
    one, other, third = (Claims(tmp_path) for _ in range(3))
    one.take("a", range(4))
    assert other.take("a", range(4), lane=LANES[1]) == [0, 1, 2, 3]
    assert third.take("a", range(4), lane=LANES[1]) == []
    other.drop("a", range(4))
    assert third.take("a", range(4), lane=LANES[1]) == [0, 1, 2, 3]
    assert third.take("a", range(4)) == []


def test_a_killed_process_claims_nothing(tmp_path: Path) -> None:
    """The kernel takes the claims of a killed process back at once, and its presence."""
    ours = Claims(tmp_path)
    command = [sys.executable, "-c", OTHER_PROCESS, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[0, 1, 2, 3]\n"
        assert ours.take("a", range(5)) == [4]
        assert not ours.is_alone
        process.kill()
        process.wait()
        assert ours.take("a", range(4)) == [0, 1, 2, 3]
        assert ours.is_alone


def test_alone(tmp_path: Path) -> None:
    """One that uses a folder is alone, with and without claims of its own; two are not."""
    one = Claims(tmp_path)
    one.take("a", range(4))
    assert one.is_alone
    other = Claims(tmp_path)
    assert not one.is_alone
    assert not other.is_alone
    del other
    assert one.is_alone


def test_without_locks(tmp_path: Path) -> None:
    """Where the claims cannot be kept (here: a link in their place, which is not followed) all blocks are free."""
    (tmp_path / ".claims").symlink_to(tmp_path / "elsewhere")
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a", range(4)) == other.take("a", range(4)) == [0, 1, 2, 3]
    one.drop("a", range(4))
    assert not one.is_alone
    assert not (tmp_path / "elsewhere").exists()


def test_places_do_not_meet() -> None:
    """Blocks of a content, of others and of both lanes have places of their own, all below what a lock can reach."""
    indices = (0, 1, 1023, 1 << 20, (1 << 24) - 1)
    places = [_position(name, index, lane) for name, index, lane in itertools.product("abc", indices, LANES)]
    assert len(set(places)) == len(places)
    assert min(places) >= 0
    assert max(places) < 1 << 62
