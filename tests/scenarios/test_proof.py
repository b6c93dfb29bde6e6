"""The harnesses of `script/soak`, in small: their readers, faults, kills and damage find no wrong byte."""

import os
import random
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.flips import Flips, flip_again_and_again
from benchmarks.kills import Kills, kill_again_and_again
from benchmarks.reader import Outcome, pread_all, ranges, read_file
from benchmarks.soak import Soak, soak
from tests.fakes import faults
from tests.fakes.faults import FAULTS, Mix
from tests.fakes.s3_server import FakeS3Server, Reply, Request
from tests.fakes.store import MemoryStore
from vbnfs.errors import StorageError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest
from vbnfs.s3 import ranges as s3
from vbnfs.s3.client import S3Client

pytestmark = pytest.mark.usefixtures("mounts")  # a machine without FUSE has none of these
DATA = random.Random(3).randbytes(300_000)
MOST_READY_SECONDS = 10.0  # on a machine that runs all tests at once; script/soak --kills allows 2
MOST_SILENT_SECONDS = 12.0  # the same; script/soak allows 7 after a silence, 3 after a hang, and a failure takes 15


def test_kills(tmp_path: Path) -> None:
    """The daemon is killed three times while programs read: each time it mounts again, soon, and no byte is wrong."""
    kills = kill_again_and_again(3, seed=5, directory=tmp_path)
    assert (kills.outcome.wrong_bytes, dict(kills.outcome.errors), len(kills.ready_seconds)) == (0, {}, 3)
    assert max(kills.ready_seconds) < MOST_READY_SECONDS
    assert kills.outcome.read_bytes > 0
    assert ("kills", "3 (seed 5)") in kills.table()


@pytest.mark.parametrize("is_live", [False, True], ids=["between mounts", "under a live mount"])
def test_flips(tmp_path: Path, is_live: bool) -> None:
    """Eighty times the cache's files are damaged: all that is read is right, and much of the damage is noticed."""
    flips = flip_again_and_again(80, seed=5, a_round=40, is_live=is_live, directory=tmp_path)
    assert flips.problems == []
    assert ("rounds", "2") in flips.table()


def test_soak(tmp_path: Path) -> None:
    """Requests fail, connections too, the server hangs, mounts come and go: no byte is wrong, no read fails."""
    result = soak(0.25, seed=5, failing=0.1, directory=tmp_path)
    assert (result.outcome.wrong_bytes, dict(result.outcome.errors)) == (0, {})
    assert result.outcome.read_bytes > 0
    assert len(result.served["faults"]) > len(FAULTS) // 2
    assert result.remounts > 0
    assert result.refusals > 0
    assert 0 < max(result.silences) < MOST_SILENT_SECONDS
    assert 0 < max(result.hangs) < MOST_SILENT_SECONDS
    assert ("wrong bytes", "0") in result.table()


def test_what_fails_a_soak() -> None:
    """Wrong bytes, failed reads, a stall, growing memory and growing files each fail it."""
    good = {"before": [(1, 1)], "after": [(1, 1)], "metrics": {"evicted_contents": 1}}
    assert Soak(1, 1, 0, outcome=Outcome(reads=1), **good).problems == []
    for outcome, more in (
        (Outcome(reads=1, wrong_bytes=1), {}),
        (Outcome(reads=1, errors=Counter(EIO=1)), {}),
        (Outcome(reads=1, longest_seconds=36.0), {}),
        (Outcome(reads=0), {}),
        (Outcome(reads=1), {"after": [(1 << 30, 1)]}),
        (Outcome(reads=1), {"after": [(1, 1000)]}),
        (Outcome(reads=1), {"metrics": {}}),
        (Outcome(reads=1), {"silences": [0.1, 7.1]}),
        (Outcome(reads=1), {"hangs": [3.1]}),
    ):
        assert len(Soak(1, 1, 0, outcome=outcome, **{**good, **more}).problems) == 1


def test_what_fails_the_others() -> None:
    """A slow mount, a wrong byte and a failed read fail the kills; so do they the flips, and damage unseen."""
    assert len(Kills(1, Outcome(reads=1), [2.5]).problems) == 1
    assert len(Kills(1, Outcome(reads=1, wrong_bytes=1, errors=Counter(EIO=1)), [1.0]).problems) == 2
    assert Flips(1, is_live=False, noticeable=100, corrupt_blocks=25).problems == []
    assert len(Flips(1, is_live=False, noticeable=100, corrupt_blocks=24).problems) == 1
    assert len(Flips(1, is_live=False, wrong=["a"], errors=["b"]).problems) == 3


def test_readers_notice(tmp_path: Path) -> None:
    """A reader sees one wrong byte, and a file that ends too early; it reads on after a short read."""
    plain, copy = tmp_path / "plain", tmp_path / "copy"
    plain.write_bytes(DATA)
    copy.write_bytes(DATA)
    for data, wrong in ((DATA, 0), (DATA[:-5], 5), (DATA[:-5] + b"wrong", 5)):
        copy.write_bytes(data)
        outcome, seed = Outcome(), next(s for s in range(50) if len(ranges(len(DATA), random.Random(s))) == 1)
        read_file(copy, plain, random.Random(seed), outcome, is_ending=lambda: False)
        assert (outcome.wrong_bytes, bool(outcome.wrong)) == (wrong, bool(wrong))
    with copy.open("rb") as file:
        assert pread_all(file.fileno(), 1 << 20, 0) == data


def test_readers_put_their_outcomes_together() -> None:
    """Counts are added, the longest read stays, and quantiles are within 5 %."""
    one, other = Outcome(reads=1, errors=Counter(EIO=1)), Outcome(reads=99)
    one.took(2.0)
    for _ in range(99):
        other.took(0.001)
    one.add(vars(other))
    assert (one.reads, one.errors["EIO"], one.longest_seconds) == (100, 1, 2.0)
    assert one.quantile(0.5) == pytest.approx(0.001, rel=0.06)
    assert one.quantile(1.0) == pytest.approx(2.0, rel=0.06)


# What was stored before the bucket had versions; and what is proven to be a part of the range: the rest is asked for.
HARMLESS = {"no version", "shorter range"}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_never_a_wrong_byte(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever one request meets, what the client hands on is right, and what is missing is an error."""
    monkeypatch.setattr(s3, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(faults, "_LONG_SECONDS", 5.0)
    store, got = MemoryStore(), bytearray()
    version = ObjectVersion("key", store.put("key", DATA))

    async def receive(piece: Piece) -> None:
        got.extend(piece.data)

    with FakeS3Server(store) as server:
        server.behaviours.append(FAULTS[name])
        async with S3Client(
            bucket=store.bucket,
            region="us-west-2",
            endpoint_url=server.endpoint_url,
            ca_bundle=None,
            max_connections=1,
            metrics=Metrics(),
        ) as client:
            wanted = ByteRange(1000, 200_000)
            if name in HARMLESS:
                await client.get_range(RangeRequest(version, wanted, len(DATA)), receive)
            else:
                with pytest.raises(StorageError):
                    await client.get_range(RangeRequest(version, wanted, len(DATA)), receive)
    assert DATA[1000:200_000].startswith(bytes(got))
    assert (len(got) == len(wanted)) == (name in HARMLESS)


def test_a_mix_is_drawn_with_its_seed() -> None:
    """The same seed gives the same faults in the same order; a tenth is about a tenth; nothing is left out."""
    request, honest = (
        Request("GET", "/", {}, {}, "key", 0),
        Reply(206, {"Content-Range": "bytes 0-99/100"}, bytes(100)),
    )
    mixes = [Mix(0.1, seed=seed) for seed in (1, 1, 2)]
    replies = [[mix(request, honest) is None for _ in range(4000)] for mix in mixes]
    assert replies[0] == replies[1] != replies[2]
    assert 300 < sum(mixes[0].counts.values()) < 500
    assert set(mixes[0].counts) == set(FAULTS)


def fuzz(examples: int) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "VBNFS_FUZZ_EXAMPLES": str(examples)}
    script = Path(__file__).parents[2] / "script" / "fuzz"
    return subprocess.run([script, "0", "9"], env=env, capture_output=True, text=True, check=False, timeout=300)


def test_fuzz_counts_its_examples() -> None:
    """`script/fuzz` ends well with the number of examples, and with status 1 where a property does not hold."""
    done = fuzz(2)
    assert done.returncode == 0, done.stdout + done.stderr
    line = re.fullmatch(r"(\d+) examples of (\d+) properties in 1 rounds, .* seed 9: none failed\n", done.stdout)
    assert line is not None
    assert int(line[1]) > int(line[2]) > 30
    failed = fuzz(0)  # which no property accepts
    assert failed.returncode == 1
    assert "failed with seed 9" in failed.stderr
