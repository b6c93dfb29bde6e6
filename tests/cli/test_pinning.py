"""`vbnfs pin`, `unpin`, `pins`: what a pin holds stays, through evictions, `clean` and new dataset versions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, Reply, Request, error
from tests.fakes.store import Pattern
from tests.fixtures_mount import run_vbnfs
from vbnfs.cache.pins import FORMAT, read_pin
from vbnfs.config.settings import MIB

SESSION = "ecephys_sessions/ecephys_session_{}.nwb"
SAME, CHANGED, GONE, NEW = (SESSION.format(n) for n in range(1, 5))
SIZES = {SAME: MIB, CHANGED: 2 * MIB, GONE: 3 * MIB, NEW: 4 * MIB}
NEWER = 5 * MIB  # of the changed one


@pytest.fixture
def dataset() -> FakeDataset:
    """A version with three sessions."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {name: Pattern(SIZES[name], seed=n) for n, name in enumerate([SAME, CHANGED, GONE])})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3Server]:
    """A server of it, which the commands ask."""
    with FakeS3Server(dataset.store) as server:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        yield server


def publish_newer(dataset: FakeDataset) -> None:
    """A second version: one session is the same, one changed, one is gone, one is new."""
    files = {SAME: Pattern(SIZES[SAME], seed=0), CHANGED: Pattern(NEWER, seed=7), NEW: Pattern(SIZES[NEW], seed=8)}
    dataset.publish("0.2.0", files)


def vbnfs(*arguments: str, status: int = 0) -> str:
    """What a command writes; its notes behind that."""
    done = run_vbnfs(*arguments)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def pins(*arguments: str) -> dict[str, dict[str, Any]]:
    rows = json.loads(run_vbnfs("pins", "--json", *arguments).stdout)
    return {row["name"]: row for row in rows}


def lengths(tmp_path: Path) -> list[int]:
    """Of the files that are in the cache."""
    return sorted(path.stat().st_size for path in tmp_path.glob("cache/blocks-v2/*/*/*/*/data"))


@pytest.mark.usefixtures("server")
def test_what_is_pinned_stays(tmp_path: Path) -> None:
    """Through `clean` to a size that has no room for it, of folders, versions and all; not when its file is named."""
    assert "1 of 1 files good" in vbnfs("pin", "mine", CHANGED, "--note", "for the figure")
    vbnfs("prefetch", ".")
    for arguments in (["--all"], ["."], ["0.1.0"], ["--dataset-version", "0.1.0"]):
        text = vbnfs("clean", *arguments)
        assert "1 file, 2.0 MiB: pinned, so it stays; 'vbnfs pins' lists the pins" in text
        assert SIZES[CHANGED] in lengths(tmp_path)
    assert lengths(tmp_path) == [SIZES[CHANGED]]
    vbnfs("prefetch", ".")
    text = vbnfs("clean", "--cache-size", "1M", status=1)
    assert (
        "cannot be deleted, because it is pinned, or just being fetched: 2.0 MiB; 'vbnfs pins' lists the pins" in text
    )
    assert lengths(tmp_path) == [SIZES[CHANGED]]
    text = vbnfs("clean", CHANGED)
    assert "pin mine lacks a file now: 'vbnfs pin mine' fetches it again" in text
    assert lengths(tmp_path) == []
    assert "mine: not all of it is here: 'vbnfs pin mine' fetches what is missing" in vbnfs("pins")
    vbnfs("clean", "--cache-size", "1G")
    vbnfs("pin", "mine")
    [row] = pins().values()
    assert (row["note"], row["here_bytes"], row["whole_files"]) == ("for the figure", SIZES[CHANGED], 1)


@pytest.mark.usefixtures("server")
def test_unpinning(tmp_path: Path) -> None:
    """It says what may be evicted now: what no other pin holds. It deletes nothing itself."""
    assert "there are no pins: 'vbnfs pin NAME PATH...' makes one" in vbnfs("unpin", "one", status=1)
    vbnfs("pin", "one", SAME, CHANGED)
    vbnfs("pin", "two", CHANGED)
    assert "pin three: there is no such pin in this cache; there are: one, two" in vbnfs("unpin", "three", status=1)
    assert vbnfs("unpin", "one") == "one  1.0 MiB may be evicted from now on\n"
    assert lengths(tmp_path) == [SIZES[SAME], SIZES[CHANGED]]
    vbnfs("clean", "--all")
    assert lengths(tmp_path) == [SIZES[CHANGED]]
    assert json.loads(run_vbnfs("unpin", "two", "--json").stdout) == [{"name": "two", "size_bytes": SIZES[CHANGED]}]
    vbnfs("clean", "--all")
    assert lengths(tmp_path) == []
    assert "nothing is pinned" in vbnfs("pins")


def test_a_new_version(dataset: FakeDataset, server: FakeS3Server, tmp_path: Path) -> None:
    """A pin holds what it held; `pins` counts what is newer and gone; `--update` moves it, and old files may go."""
    vbnfs("pin", "named", "--dataset-version", "0.1.0", CHANGED)
    vbnfs("pin", "mine", ".")
    publish_newer(dataset)
    rows = pins()
    counts = ("dataset_version", "newest", "newer_files", "gone_files", "files")
    assert [rows["mine"][name] for name in counts] == ["0.1.0", "0.2.0", 1, 1, 3]
    assert "1 newer and 1 gone in 0.2.0" in vbnfs("pins")
    server.forget_requests()
    vbnfs("pin", "mine")  # goes on in its version, where nothing is missing
    assert server.count("get_range") == 0
    assert "to fetch" in vbnfs("pin", "--update", "mine", "--dry-run")
    vbnfs("pin", "--update")
    assert lengths(tmp_path) == sorted([*(SIZES[name] for name in SIZES), NEWER])
    rows = pins()
    assert (rows["mine"]["dataset_version"], rows["mine"]["newer_files"], rows["mine"]["gone_files"]) == (
        "0.2.0",
        0,
        0,
    )
    assert (rows["named"]["dataset_version"], rows["named"]["newer_files"]) == ("0.1.0", 1)  # made for a version
    vbnfs("clean", "--all")
    assert lengths(tmp_path) == sorted([SIZES[SAME], SIZES[CHANGED], NEWER, SIZES[NEW]])
    vbnfs("pin", "--update", "named")  # but moved where it is named
    vbnfs("clean", "--all")
    assert lengths(tmp_path) == sorted([SIZES[SAME], NEWER, SIZES[NEW]])


@pytest.mark.slow
def test_an_update_that_fails(dataset: FakeDataset, server: FakeS3Server, tmp_path: Path) -> None:
    """What the pin held is held, too, until all that is new is here; the same command goes on."""
    vbnfs("pin", "mine", ".")
    publish_newer(dataset)

    def deny(request: Request, honest: Reply) -> Reply | None:
        return error(403, "AccessDenied") if "session_4" in request.path and request.kind == "get_range" else None

    server.behaviours = [deny]
    text = vbnfs("pin", "--update", status=1)
    assert "mine: 1 of 3 files not verified and kept" in text
    assert "1 of the pins are not moved as a whole; they still hold what they held before" in text
    vbnfs("clean", "--all")
    assert lengths(tmp_path) == sorted([SIZES[SAME], SIZES[CHANGED], SIZES[GONE], NEWER])
    server.behaviours = []
    vbnfs("pin", "--update")
    vbnfs("clean", "--all")
    assert lengths(tmp_path) == sorted([SIZES[SAME], NEWER, SIZES[NEW]])


@pytest.mark.slow
def test_what_does_not_fit_beside_other_pins(server: FakeS3Server, tmp_path: Path) -> None:
    """Is refused before a byte is fetched, and not pinned; so it is where a pin's files are still to come."""
    vbnfs("clean", "--cache-size", "5M")
    (tmp_path / "cache").mkdir(mode=0o700, exist_ok=True)
    vbnfs("clean", "--cache-size", "5M")
    vbnfs("pin", "one", GONE)
    vbnfs("clean", GONE)
    server.forget_requests()
    text = vbnfs("pin", "two", SAME, CHANGED, status=1)
    assert "may take 5.0 MiB, of which 3.0 MiB are pinned or being fetched: " in text
    assert "--cache-size 7M" in text
    assert server.count("get_range") == 0
    assert list(pins()) == ["one"]


def test_files_that_are_here_do_not_fit_beside_other_pins(server: FakeS3Server, tmp_path: Path) -> None:
    """A pin of files that are in the cache already is refused, too, where it would not fit. What it holds stays."""
    vbnfs("prefetch", ".")
    vbnfs("pin", "one", GONE)
    text = vbnfs("pin", "two", SAME, CHANGED, "--cache-size", "5M", status=1)
    assert "may take 5.0 MiB, of which 3.0 MiB are pinned or being fetched: " in text
    assert "may take 5.0 MiB" in vbnfs("pin", "two", SAME, CHANGED, "--cache-size", "5M", "--dry-run", status=1)
    assert list(pins()) == ["one"]
    assert "1 of 1 files good" in vbnfs("pin", "one", GONE, "--cache-size", "2M")
    assert "2 of 2 files good" in vbnfs("prefetch", SAME, CHANGED, "--cache-size", "5M")
    assert lengths(tmp_path) == sorted([SIZES[SAME], SIZES[CHANGED], SIZES[GONE]])


def test_interrupted_pins_hold_already(server: FakeS3Server, tmp_path: Path) -> None:
    """A pin stands before its first byte is fetched: what came is held, and the same command fetches the rest."""

    def deny(request: Request, honest: Reply) -> Reply | None:
        return error(403, "AccessDenied") if "session_3" in request.path and request.kind == "get_range" else None

    server.behaviours = [deny]
    vbnfs("pin", "mine", ".", status=1)
    vbnfs("clean", "--all")
    assert lengths(tmp_path) == [SIZES[SAME], SIZES[CHANGED]]
    server.behaviours = []
    assert "3 of 3 files good" in vbnfs("pin", "mine", ".")


@pytest.mark.usefixtures("server")
def test_what_is_refused(tmp_path: Path) -> None:
    """A name that is taken for something else, no name, no files, another dataset; nothing changes."""
    vbnfs("pin", "mine", SAME)
    text = vbnfs("pin", "mine", CHANGED, status=1)
    assert "pin mine: it holds something else already" in text
    assert "'vbnfs pin --update mine' for the newest version, or 'vbnfs unpin mine' first" in text
    assert "a pin needs a name" in vbnfs("pin", status=2)
    assert "pin other: there is no such pin" in vbnfs("pin", "other", status=1)
    assert "leave --sessions and the like out" in vbnfs("pin", "--update", "--sessions", "all", status=2)
    assert "it is of another dataset" in vbnfs("pin", "--update", "mine", "--project", "x", "--offline", status=1)
    found = read_pin(tmp_path / "cache", "mine")
    assert found is not None
    assert [file.path for file in found.files] == [SAME]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("asked", [{}, {"paths": None}, {"sessions": 5}, {"having": [["units"]]}, {"lfp": "?"}])
def test_a_pin_whose_question_is_damaged(asked: dict[str, Any], tmp_path: Path) -> None:
    """What a pin was made for may be damaged, or of another vbnfs: that is said, and the pin holds."""
    vbnfs("pin", "mine", SAME)
    file = tmp_path / "cache" / FORMAT / "mine.pin"
    header, *lines = file.read_text().splitlines()
    stored = json.loads(header)
    file.write_text("\n".join([json.dumps(stored | {"asked": stored["asked"] | asked if asked else {}}), *lines, ""]))
    for arguments in (["pin", "mine"], ["pin", "mine", SAME], ["pin", "--update", "mine"], ["pin", "--update"]):
        text = vbnfs(*arguments, status=1)
        assert "pin mine: what it was made for cannot be read" in text, arguments
    assert pins()["mine"]["here_bytes"] == SIZES[SAME]
    assert "mine  1.0 MiB may be evicted" in vbnfs("unpin", "mine")


@pytest.mark.usefixtures("server")
def test_prefetch_pins_by_the_day(tmp_path: Path) -> None:
    """`prefetch --pin` pins under the day's date, or the name that is given."""
    vbnfs("prefetch", "--pin", SAME)
    vbnfs("prefetch", "--pin", "--name", "mine", "--note", "x", CHANGED)
    [day, mine] = sorted(pins())
    assert len(day.split("-")) == 3
    assert (mine, pins()["mine"]["note"]) == ("mine", "x")


def test_pins_without_network(server: FakeS3Server, tmp_path: Path) -> None:
    """What is here can be pinned, listed and unpinned offline; what is not is held, and said to be missing."""
    vbnfs("prefetch", SAME)
    server.stop()
    vbnfs("pin", "mine", SAME, "--offline")
    text = vbnfs("pin", "more", SAME, CHANGED, "--offline", status=1)
    assert "1 of 2 files good" in text
    assert pins("--offline")["more"]["here_bytes"] == SIZES[SAME]
    vbnfs("unpin", "more")
    assert list(pins("--offline")) == ["mine"]
