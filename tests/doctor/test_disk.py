"""What the disk of a cache says, well and not: of real folders and files, by a process of its own."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.cache_files import place_of
from tests.fakes.disks import memory_disk
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache import format_1, sampling
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.inventory import scan
from vbnfs.cache.pins import Pin, PinnedFile, store_pin
from vbnfs.cache.sampling import Sample, take_sample
from vbnfs.cache.verdict import Verdict
from vbnfs.cache.verdicts import Verdicts
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.doctor.disk import DiskFacts, Stored, decide_cache, decide_disk, decide_folder
from vbnfs.doctor.disk_messages import decode, encode
from vbnfs.doctor.disk_program import gather
from vbnfs.doctor.disk_question import ask_disk
from vbnfs.doctor.findings import Level
from vbnfs.errors import CacheError
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion

BLOCKS = 6
CONTENT = Content("aa11", BLOCKS * BLOCK_BYTES, ObjectVersion("key", "v1"), file_hash="00")


def config_for(directory: Path, **settings: str) -> Config:
    given = {"cache_dir": str(directory), "log_file": str(directory.with_name("vbnfs.log")), **settings}
    return load_config(command_line=given, environ={})


def fill(directory: Path) -> None:
    cache = BlockCache(directory, scope="aws", metrics=Metrics())
    for index in range(BLOCKS):
        assert cache.put(CONTENT, index, bytes([index]) * BLOCK_BYTES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory with one content, whose place is not shared with other tests' umask."""
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o700)
    fill(directory)
    return directory


def texts(facts: DiskFacts) -> list[tuple[str, str]]:
    """Level and text of what needs doing, or is good."""
    found = [*decide_folder(facts), *decide_disk(facts), *decide_cache(facts)]
    return [(finding.level.value, finding.text) for finding in found]


async def test_a_cache_that_is_well(cache: Path) -> None:
    """By a process of its own: all blocks are read, none is damaged, and the cache is as before."""
    before = sorted(path for path in cache.rglob("*") if path.is_file())
    facts = await ask_disk(config_for(cache, cache_reserve="0"))
    assert facts.stored is not None
    assert facts.stored.sample == Sample(BLOCKS, 1, 0)
    assert [level for level, _ in texts(facts)] == ["good"] * 3
    after = {path for path in cache.rglob("*") if path.is_file()}
    assert after - set(before) <= {cache / "CACHEDIR.TAG"}
    assert set(before) <= after
    assert facts.log_refusal is None
    assert not config_for(cache).log_file.exists()


def test_damaged_blocks(cache: Path) -> None:
    """A bit that flipped, and a file that was cut short, are found; nothing is deleted for that."""
    data = place_of(cache, CONTENT.content_id, scope="aws") / "data"
    with data.open("r+b") as file:
        file.seek(3 * BLOCK_BYTES + 7)
        file.write(b"\xff")
    facts = gather(config_for(cache, cache_reserve="0"))
    assert facts.stored is not None
    assert facts.stored.sample == Sample(BLOCKS, 1, 1)
    [finding] = decide_cache(facts)
    assert finding.level is Level.TO_DO
    assert finding.section == "cached-blocks-are-damaged"
    os.truncate(data, 4 * BLOCK_BYTES)
    assert _sample(cache) == Sample(1, 1, 1)
    data.chmod(0)
    if os.geteuid() != 0:
        assert _sample(cache) == Sample(1, 1, 1)
    data.unlink()
    assert _sample(cache) == Sample()


def _sample(cache: Path, most_blocks: int = 512) -> Sample:
    directory = folder_at(cache)
    return take_sample(directory, list(scan(directory)), most_blocks=most_blocks)


def test_a_sample_is_of_all_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many blocks some are read, from each content about as many, within a limit of time."""
    other = replace(CONTENT, content_id="bb22")
    store = BlockCache(cache, scope="aws", metrics=Metrics())
    for index in range(BLOCKS):
        store.put(other, index, bytes([index]) * BLOCK_BYTES)
    assert _sample(cache) == Sample(2 * BLOCKS, 2, 0)
    assert _sample(cache, most_blocks=4) == Sample(4, 2, 0)
    assert _sample(cache, most_blocks=1) == Sample(1, 1, 0)
    monkeypatch.setattr(sampling, "_LONGEST_SECONDS", -1.0)
    assert _sample(cache) == Sample()


def test_no_cache_yet(tmp_path: Path) -> None:
    """Where there is no cache, none is made; that the first mount can make it is good."""
    config = config_for(tmp_path / "a" / "cache", cache_reserve="0")
    facts = gather(config)
    assert (facts.stored, facts.parent, facts.may_be_made) == (None, tmp_path, True)
    assert not (tmp_path / "a").exists()
    assert [level for level, _ in texts(facts)] == ["good", "good", "left out"]


def test_a_folder_that_is_refused(tmp_path: Path) -> None:
    """A folder that others can write, and what is no folder, are refused as by a mount."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").touch()
    for name in ("open", "file", "open/cache", "file/cache"):
        facts = gather(config_for(tmp_path / name))
        assert facts.refusal is not None, name
        assert texts(facts)[0][0] == "to do"


def test_a_reserve_that_is_not_free(cache: Path) -> None:
    """A disk with less free than the reserve needs doing; so does one for a cache that is still to be made."""
    for directory in (cache, cache.with_name("new")):
        facts = gather(config_for(directory, cache_reserve="8000P"))
        [finding] = decide_disk(facts)
        assert finding.level is Level.TO_DO
        assert "the disk has less free than the reserve" in finding.text


def test_pins_above_the_limit(cache: Path) -> None:
    """Pins that take more than the cache may take need doing."""
    file = PinnedFile("a.nwb", CONTENT.content_id, CONTENT.size_bytes, None)
    store_pin(cache, Pin("all", "", "2026-11-30T00:00:00+00:00", "x", "0.1.0", {}, (file,)))
    facts = gather(config_for(cache, cache_size="1M", cache_reserve="0"))
    [finding] = decide_cache(facts)
    assert finding.level is Level.TO_DO
    assert "what is pinned takes 1.5 MiB of 1.0 MiB" in finding.text


def test_what_is_stored_otherwise(cache: Path) -> None:
    """A size that is exceeded, wrong hashes, and files of an earlier vbnfs are found, and stay as they are."""
    Verdicts(cache, scope="aws").keep(CONTENT, Verdict("11", "f", "2026-11-30", 1))
    (cache / format_1.FORMAT_1).mkdir(mode=0o700)
    facts = gather(config_for(cache, cache_size="1M", cache_reserve="0"))
    assert facts.stored is not None
    assert facts.stored.mismatched_files == 1
    levels = [finding.level for finding in decide_cache(facts)]
    assert levels == [Level.TO_DO, Level.TO_DO, Level.NOTE]
    assert facts.stored.sample == Sample(BLOCKS, 1, 0)


def test_other_caches_and_the_log(cache: Path, tmp_path: Path) -> None:
    """Other caches and an index that cannot be read are found; of the log, whether it can be written, and its end."""
    log = tmp_path / "vbnfs.log"
    log.write_text("".join(f"line {number}\n" for number in range(300)))
    more = {"cache_also": str(tmp_path / "none"), "index": str(tmp_path / "no.index"), "cache_reserve": "0"}
    facts = gather(config_for(cache, **more))
    assert [problem.split()[0] for problem in facts.others] == ["--cache-also", "--index"]
    assert (facts.log_lines[0], len(facts.log_lines)) == ("line 200", 100)
    refused = gather(config_for(cache, log_file=str(log / "below.log")))
    assert "choose one with --log-file" in str(refused.log_refusal)
    assert gather(config_for(cache, log_file=str(tmp_path))).log_refusal is not None


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk without any room."""
    with memory_disk(tmp_path / "disk", "size=8m") as disk:
        (disk / "cache").mkdir(mode=0o700)
        fill(disk / "cache")
        with (disk / "others").open("wb") as file, suppress(OSError):
            while True:
                os.write(file.fileno(), bytes(4096))
        yield disk / "cache"


@pytest.mark.root
def test_a_full_disk(full: Path) -> None:
    """A disk without room needs doing; what is stored on it is checked all the same."""
    facts = gather(config_for(full, cache_reserve="0", log_file=str(full.parents[1] / "vbnfs.log")))
    [finding] = decide_disk(facts)
    assert finding.level is Level.TO_DO
    assert "takes no more: No space left on device" in finding.text
    assert facts.stored is not None
    assert facts.stored.sample == Sample(BLOCKS, 1, 0)


def test_what_goes_to_the_program_comes_back() -> None:
    """A configuration and facts survive as JSON, with paths, errors and remedies; other classes are refused."""
    config = config_for(Path("/c\udcff"), cache_also="/a:/b", mirror="bucket=lab-copy")
    assert decode(encode(config)) == config
    refusal = CacheError("no", remedy="choose")
    stored = Stored(usage_bytes=1, limit_bytes=2, sample=Sample(3, 2, 1))
    facts = DiskFacts(directory=Path("/c"), refusal=refusal, stored=stored, others=("a", "b"))
    again = decode(encode(facts))
    assert (again.stored, again.others, again.directory) == (stored, ("a", "b"), Path("/c"))
    assert (type(again.refusal), str(again.refusal), again.refusal.remedy) == (CacheError, "no", "choose")
    with pytest.raises(KeyError):
        decode(b'{"Popen": {"args": ["true"]}}')
    with pytest.raises(TypeError):
        encode(replace(facts, others=(object(),)))  # type: ignore[arg-type]
