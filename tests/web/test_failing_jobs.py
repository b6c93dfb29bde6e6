"""Jobs that S3, the network or the cache's disk fails: the page says why, what helps, and begins them again."""

import html
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.fakes.dataset import serve
from tests.fakes.disks import memory_disk, remount
from tests.fakes.s3_server import Behaviour, FakeS3Server, Reply, Request, always, error, for_kind, held
from tests.waiting import until
from tests.web.conftest import Visit, visiting
from vbnfs.reading.hashing import Hasher
from vbnfs.web.orders import Kind, Order

FILES: Final = {
    f"behavior_ecephys_sessions/{number}/ecephys_session_{number}.nwb": os.urandom(1 << 20) for number in range(2)
}
PLACES: Final = [f"manifests/v0.5.0/{path}" for path in FILES]


@pytest.fixture
def s3() -> Iterator[FakeS3Server]:
    """A release of two sessions."""
    with serve({"0.5.0": FILES}) as server:
        yield server


def of_files(behaviour: Behaviour) -> Behaviour:
    """What happens to requests for bytes alone."""
    return lambda request, honest: behaviour(request, honest) if request.kind in {"get_range", "get_object"} else None


def of_another_version(request: Request, honest: Reply) -> Reply:
    """What the server has at this address is another object."""
    return honest.with_headers(**{"x_amz_version_id": "other"})


def of_other_bytes(request: Request, honest: Reply) -> Reply:
    """The object has changed, and nothing says so."""
    return replace(honest, body=bytes(len(honest.body)))


def said(visit: Visit) -> str:
    """What the page says of its jobs, in a line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", visit.browser.get("/jobs").text)).split())


def fetch(visit: Visit) -> str:
    """What the page says of a job that fetches all, when that has ended."""
    visit.browser.post("/jobs", data={"place": PLACES, "version": "0.5.0"})
    until(lambda: not visit.house.jobs.all()[0].is_running, seconds=300)
    return said(visit)


def again(visit: Visit) -> str:
    """The same of its last job, begun once more by its button."""
    [address] = re.findall(r'hx-post="\./(jobs/\d+/again)', visit.browser.get("/jobs?depth=0").text)
    visit.browser.post(f"/{address}")
    until(lambda: not visit.house.jobs.all()[0].is_running)
    return said(visit)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (always(error(403, "AccessDenied")), "HTTP 403 AccessDenied: the bucket does not allow anonymous reading"),
        (always(error(404, "NoSuchVersion")), "'vbnfs versions' lists those that there are"),
        (of_another_version, "or check --endpoint-url and the proxy variables: something else is there"),
        (of_other_bytes, "S3 has other bytes; 'vbnfs verify --fetch FILE' tries again"),
    ],
    ids=["forbidden", "gone", "another version", "other bytes"],
)
def test_what_s3_refuses(s3: FakeS3Server, behaviour: Behaviour, words: str) -> None:
    """The page says what S3 says, and the remedy as a command has it; the button begins it again, which succeeds."""
    with visiting(s3) as visit:
        visit.browser.get("/")
        s3.behaviours.append(of_files(behaviour))
        text = fetch(visit)
        assert "2 of 2 files not verified and kept" in text
        assert words in text
        s3.behaviours.clear()
        assert again(visit) == "Fetch 2 files : 2 files here, and checked"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (nullcontext, "the server is overloaded: try again later, or lower --max-connections"),
        (FakeS3Server.refusing, "check the network, --endpoint-url and the proxy variables, and try again"),
    ],
    ids=["SlowDown", "offline"],
)
def test_s3_that_does_not_answer(
    s3: FakeS3Server, fails: Callable[[FakeS3Server], AbstractContextManager[None]], words: str
) -> None:
    """While a job tries the next file the page says why one has failed. It ends, and is begun again."""
    with visiting(s3) as visit:
        visit.browser.get("/")
        if fails is nullcontext:
            s3.behaviours.append(of_files(always(error(503, "SlowDown"))))
        with fails(s3):
            visit.browser.post("/jobs", data={"place": PLACES, "version": "0.5.0"})
            until(lambda: "1 file failed, the others are tried" in said(visit), seconds=120)
            assert words in said(visit)
            until(lambda: not visit.house.jobs.all()[0].is_running, seconds=120)
            assert words in said(visit)
        s3.behaviours.clear()
        assert again(visit) == "Fetch 2 files : 2 files here, and checked"


@pytest.mark.parametrize("kind", [Kind.FETCH, Kind.VERIFY])
def test_a_job_ends_before_it_has_made_any_progress(
    s3: FakeS3Server, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its button ends it while S3 does not say how large the files are, and while a file is hashed."""
    gate, begun = threading.Event(), threading.Event()

    async def hash_without_end(hasher: Hasher, work: Callable[[], None]) -> None:
        begun.set()
        await trio.sleep_forever()

    def hold(request: Request, honest: Reply) -> Reply | None:
        begun.set()
        return held(gate)(request, honest)

    s3.behaviours.append(for_kind("list_versions", always(error(403, "AccessDenied"))))
    with visiting(s3) as visit:
        visit.browser.get("/")
        if kind is Kind.FETCH:
            s3.behaviours.append(for_kind("head", hold))
        else:
            fetch(visit)
            monkeypatch.setattr(Hasher, "with_pause", hash_without_end)
        number = visit.house.jobs.start(Order(kind, (PLACES[0],), "0.5.0" if kind is Kind.FETCH else None))
        until(begun.is_set)
        asked = s3.count("head")
        visit.browser.post(f"/jobs/{number}/end")
        try:
            until(lambda: not visit.house.jobs.all()[0].is_running)
        finally:
            gate.set()
        assert visit.house.jobs.all()[0].outcome == "ended by you; what had come stays"
        assert s3.count("head") == asked  # it did not wait until S3 was asked once more


def test_a_plan_and_a_look_without_s3(s3: FakeS3Server) -> None:
    """They say why in the words of commands, and are no defects."""
    with visiting(s3) as visit:
        visit.browser.get("/")
        s3.behaviours.append(always(error(403, "AccessDenied")))
        for address in (f"/look/v0.5.0/{next(iter(FILES))}?look=running", f"/structure/v0.5.0/{next(iter(FILES))}"):
            answer = visit.browser.get(address)
            assert answer.status_code == 200
            text = html.unescape(answer.text)
            assert "HTTP 403 AccessDenied" in text
            assert "check --bucket" in text
            assert "[Errno" not in text


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB for the cache."""
    with memory_disk(tmp_path / "disk", "size=64m") as folder:
        yield folder


@pytest.mark.root
def test_a_disk_that_fills(s3: FakeS3Server, disk: Path) -> None:
    """Another program fills it while a job runs: that, and not the cache's size, is said to be the reason."""

    def fill(request: Request, honest: Reply) -> None:
        with (disk / "other").open("ab") as file:
            file.write(bytes(max(0, os.statvfs(disk).f_bavail * 4096 - (64 << 10))))

    with visiting(s3, cache=disk / "cache") as visit:
        visit.browser.get("/")
        s3.behaviours.append(of_files(fill))
        text = fetch(visit)
        assert "takes no more: No space left on device" in text
        assert "free some on that disk" in text
        s3.behaviours.clear()
        (disk / "other").unlink()
        assert again(visit) == "Fetch 2 files : 2 files here, and checked"


@pytest.mark.root
def test_a_disk_that_is_read_only(s3: FakeS3Server, disk: Path) -> None:
    """Nothing is fetched: a job says at once that the cache cannot be written. The page shows all else."""
    with visiting(s3, cache=disk / "cache") as visit:
        visit.browser.get("/")
    remount(disk, "ro")
    try:
        with visiting(s3, cache=disk / "cache") as visit:
            assert visit.browser.get("/").status_code == 200
            before = s3.count("get_range") + s3.count("get_object")
            text = fetch(visit)
            assert "cannot be written: allow writing there, or choose another --cache-dir" in text
            assert s3.count("get_range") + s3.count("get_object") == before
            remount(disk, "rw")
            assert again(visit) == "Fetch 2 files : 2 files here, and checked"
    finally:
        remount(disk, "rw")
