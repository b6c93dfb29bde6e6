"""What the page costs at the size of the real release: 4,298 files in each of five versions, 160 MB of tables.

Processor time is that of the whole process, the least of some answers: another program on the machine adds none.
"""

import gc
import gzip
import os
import re
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import h5py
import httpx
import pytest
import trio

from tests.children import children_of
from tests.dataset.real_list import real_files
from tests.dataset.real_tables import real_store
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Data, FileData
from tests.served_page import page
from tests.waiting import until
from tests.web.conftest import Visit, visiting
from vbnfs.access import room
from vbnfs.cache.content_folder import DATA, PARTIAL, WHOLE, Shape, make_folder
from vbnfs.cache.verdict import Verdict
from vbnfs.cache.whole_file import Seal
from vbnfs.dataset.kinds import LFP, SESSION, kind_of
from vbnfs.demo.cohort import make_cohort, records
from vbnfs.demo.lfp_file import write_lfp
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.session_file import Processing, write_ecephys_session
from vbnfs.host.disk_space import DiskSpace
from vbnfs.web.orders import Order

pytestmark = pytest.mark.slow

SCALE = ReleaseScale(
    ecephys_sessions=1, behavior_sessions=0, probes=6, units_per_session=60, spikes_per_unit=5_000, lfp_seconds=10
)
SESSION_BYTES = 2_900_000_000
SESSION_PATH = "behavior_ecephys_sessions/1044385384/ecephys_session_1044385384.nwb"
LFP_PATH = "behavior_ecephys_sessions/1044385384/probe_probeB_lfp.nwb"
CHANGES = "changes?old=0.4.0&new=0.5.0"
WITH_TABLES = f"{CHANGES}&tables=yes"
TABLES_BYTES = (261_000_000, 266_000_000)  # of units, in two versions
MOST_STEP_MILLISECONDS = 30  # of the event loop, on a busy machine
USUAL_MEMORY_BYTES = 400_000_000
MOST_MEMORY_BYTES = 1_100_000_000


@dataclass(frozen=True)
class Gate:
    """A view: at most so many milliseconds of processor time, bytes of its answer, and of these when compressed."""

    path: str
    milliseconds: int
    answer_bytes: int
    sent_bytes: int
    form: tuple[tuple[str, str], ...] = ()


GATES = (
    Gate("/", 50, 12_000, 3_000),
    Gate("/sessions", 150, 130_000, 13_000),
    Gate("/sessions?words=sst+novel", 150, 60_000, 8_000),
    Gate("/sessions?f.experience_level='Novel'&f.structure_acronyms='VISp'", 150, 90_000, 10_000),
    Gate("/sessions?query=unit_count>2000&sort=-unit_count&page=2", 150, 80_000, 9_000),
    Gate(f"/{CHANGES}", 150, 80_000, 6_000),
    Gate(f"/{WITH_TABLES}", 150, 80_000, 6_000),
    Gate(f"/{CHANGES}&change=changed&words=nwb&page=4", 150, 80_000, 8_000),
    Gate("/files?version=0.5.0", 80, 6_000, 2_500),
    Gate("/files?folder=behavior_only_sessions&page=17", 80, 40_000, 5_000),
    Gate("/files?folder=behavior_ecephys_sessions", 80, 80_000, 8_000),
    Gate("/files?session=1044385384", 80, 8_000, 2_500),
    Gate("/file/v0.5.0/project_metadata/units.csv", 80, 8_000, 3_000),
    Gate(f"/file/v0.5.0/{SESSION_PATH}", 80, 11_000, 3_500),
    Gate(f"/structure/v0.5.0/{SESSION_PATH}", 80, 90_000, 12_000),
    Gate(f"/structure/v0.5.0/{SESSION_PATH}?object=units", 80, 60_000, 9_000),
    Gate(f"/look/v0.5.0/{SESSION_PATH}?look=unit", 80, 60_000, 15_000),
    Gate(f"/look/v0.5.0/{SESSION_PATH}?look=waveform", 80, 30_000, 8_000),
    Gate(f"/look/v0.5.0/{SESSION_PATH}?look=running", 80, 40_000, 14_000),
    Gate(f"/look/v0.5.0/{LFP_PATH}?look=lfp", 80, 250_000, 60_000),
    Gate("/areas?read=yes", 150, 40_000, 6_000),
    Gate("/areas?read=yes&f.experience_level='Novel'&u.quality='good'&units=snr>50", 150, 40_000, 6_000),
    Gate("/machine", 150, 10_000, 4_000),
    Gate("/doctor", 20, 4_000, 1_500),
    Gate("/jobs", 20, 2_000, 1_000),
    Gate("/plan", 150, 150_000, 7_000, (("all", "1"), ("lfp", "yes"))),
    Gate("/plan", 150, 4_000, 2_000, (("folder", "behavior_ecephys_sessions"), ("lfp", "yes"))),
    Gate("/plan?f.structure_acronyms='VISp'", 150, 40_000, 3_000, (("all", "1"), ("lfp", "areas"))),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """The release. A session and the LFP of a probe are genuine files, the session's as long as real ones."""
    with FakeS3Server(real_store(genuine(tmp_path_factory.mktemp("genuine")))) as server:
        yield server


def genuine(place: Path) -> dict[str, Data]:
    """A session, most of which is a hole that an array has, and the LFP of a probe."""
    cohort = make_cohort(0, SCALE)
    [session], probe = records(cohort.ecephys_sessions), records(cohort.probes)[0]
    write_ecephys_session(place / "session.nwb", cohort, session, Processing())
    write_lfp(place / "lfp.nwb", cohort, session, probe, 1e-6)
    with h5py.File(place / "session.nwb", "r+") as file:
        chosen = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        chosen.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        chosen.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((SESSION_BYTES // 8,))
        h5py.h5d.create(file.id, b"/units/amplitudes_of_all", h5py.h5t.NATIVE_DOUBLE, space, chosen)
    return {SESSION_PATH: FileData(place / "session.nwb"), LFP_PATH: (place / "lfp.nwb").read_bytes()}


@dataclass(frozen=True)
class FirstLook:
    """What `vbnfs web` did that found an empty cache, and this cache. `said`: the headings of its answers."""

    cache: Path
    sessions_requests: int
    sessions_bytes: int
    said: list[str]
    tables_bytes: int
    usual_memory_bytes: int
    most_memory_bytes: int


@pytest.fixture(scope="module")
def first_look(server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory) -> FirstLook:
    """A process shows sessions, and what changed in tables; while these are read, another view is asked for, too."""
    cache, said = tmp_path_factory.mktemp("cache"), list[str]()
    with page(server, "--port", "0", "--cache-dir", str(cache)) as (address, process), entered(address) as browser:
        server.forget_requests()
        until(lambda: browser.get("sessions").status_code == 200)
        assert "153 sessions" in browser.get("sessions").text
        of_sessions = server.count(), server.body_bytes
        usual_bytes = memory_bytes(process.pid, "VmRSS")
        server.forget_requests()

        def is_there() -> bool:
            answer = browser.get(WITH_TABLES)
            said.extend(re.findall(r"<h1>(.*?)</h1>", answer.text + browser.get("files").text))
            return answer.status_code == 200

        until(is_there, seconds=120.0)
        most_bytes = memory_bytes(process.pid, "VmHWM")
        return FirstLook(cache, *of_sessions, said, server.body_bytes, usual_bytes, most_bytes)


@contextmanager
def entered(address: str) -> Iterator[httpx.Client]:
    """A browser that has been let in by an address with a token."""
    with httpx.Client(base_url=address.partition("?")[0], follow_redirects=True, timeout=60.0) as browser:
        assert browser.get(address).status_code == 200
        yield browser


def memory_bytes(pid: int, name: str) -> int:
    """A figure of /proc/PID/status (proc_pid_status(5))."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def test_the_first_look_reads_each_table_once_and_says_how_far_it_is(first_look: FirstLook) -> None:
    """Sessions need no large table; those that changed are fetched once, while other views answer.

    The memory of the process stays within what docs/web.md says.
    """
    assert (first_look.sessions_requests <= 8, first_look.sessions_bytes < 1_500_000) == (True, True)
    assert first_look.said[:2] == ["Being read: Tables of 0.4.0 and 0.5.0", "Files of 0.5.0"]
    assert first_look.said[-2:] == ["What changed from 0.4.0 to 0.5.0", "Files of 0.5.0"]
    assert TABLES_BYTES[0] < first_look.tables_bytes < TABLES_BYTES[1]
    assert first_look.usual_memory_bytes < USUAL_MEMORY_BYTES
    assert first_look.most_memory_bytes < MOST_MEMORY_BYTES


@pytest.fixture(scope="module")
def visit(server: FakeS3Server, first_look: FirstLook) -> Iterator[Visit]:
    """The page after a restart, with that cache, and all sessions and LFP of 0.5.0 in it besides.

    A third of these is there in part; the others are whole and verified.
    """
    with visiting(server, cache=first_look.cache, cache_size="16T") as visit:
        versions = visit.house.versions
        places = versions.dataset.cache.places
        files = [file for file in versions.manifest(None).files if kind_of(file.path).kind in {SESSION, LFP}]
        left_out = {SESSION_PATH, LFP_PATH}
        contents = versions.contents(file for file in files if "/".join(file.path) not in left_out)
        for number, content in enumerate(contents.values()):
            assert content is not None
            place = places.of(content.content_id, WHOLE if number % 3 else PARTIAL)
            place.parent.mkdir()
            make_folder(place, Shape(content.size_bytes))
            if number % 3:
                seal = Seal.of_status((place / DATA).stat())
                verdict = Verdict(content.file_hash or "", "", "2026-01-01T00:00:00Z", seal=seal.text)
                versions.dataset.verdicts.keep(content, verdict)
        yield visit


class Loop(trio.abc.Instrument):
    """The longest that a step of a task took of the event loop's processor time, in seconds."""

    def __init__(self) -> None:
        self.longest = self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, time.thread_time() - self._began)


@pytest.fixture(autouse=True)
def _no_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounts that others have on this machine play no part."""
    for place in ("vbnfs.web.app", "vbnfs.host.mountinfo"):
        monkeypatch.setattr(f"{place}.list_mounts", list)


@pytest.fixture(autouse=True)
def _a_large_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for all of the dataset, so a plan has a button, and the files that it is of."""
    monkeypatch.setattr(room, "space_of", lambda folder: DiskSpace(15 << 40, 16 << 40, is_read_only=False))


def test_what_each_view_costs(
    visit: Visit, first_look: FirstLook, server: FakeS3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is within its gates, asks S3 for nothing the second time, and never holds the event loop for long.

    After a restart no table is fetched again, nor parsed.
    """
    server.forget_requests()
    assert visit.browser.get(f"/{WITH_TABLES}").status_code == 200
    assert visit.browser.get("/sessions").status_code == 200
    assert "verified</span>" in visit.browser.get("/sessions").text
    assert server.body_bytes == 0
    costs = costs_of(visit, server, GATES)
    memory = f"memory: {first_look.usual_memory_bytes:,} bytes, at most {first_look.most_memory_bytes:,}"
    with capsys.disabled():
        print("", memory, *(f"{gate.path}: {found.text}" for gate, found in costs), sep="\n")
    assert [f"{gate}: {found.text}" for gate, found in costs if not found.is_within(gate)] == []


def test_what_it_costs_to_begin_a_fetch_of_all(
    visit: Visit, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan's button sends the places of all 1,022 files, as many as were planned; they are one job."""
    begun = list[Order]()
    monkeypatch.setattr(visit.house.jobs, "start", begun.append)
    planned = visit.browser.post("/plan", data={"all": "1", "lfp": "yes"}).text
    places = re.findall(r'name="place" value="([^"]+)"', planned)
    gate = Gate("/jobs", 150, 2_000, 1_000, tuple(("place", place) for place in places))
    [(_, found)] = costs_of(visit, server, [gate])
    with capsys.disabled():
        print(f"{gate.path}: {len(urlencode(gate.form)):,} bytes asked, {found.text}")
    assert len(places) == len(set(places)) == 1_022
    assert {len(order.places) for order in begun} == {1_022}
    assert found.is_within(gate), found.text


def test_what_each_view_costs_on_the_demo_s_release(three_sessions: Mapping[str, Mapping[str, bytes]]) -> None:
    """The same views of a small release: all of them within a tenth of a second, and a hundred kilobytes."""
    old, new = three_sessions
    session, lfp = (
        next(path for path in three_sessions[new] if part in path) for part in ("ecephys_session_", "_lfp.nwb")
    )
    paths = (
        *(
            "/",
            "/sessions",
            "/sessions?words=sst+novel",
            "/files",
            "/files?folder=project_metadata",
            "/machine",
            "/jobs",
        ),
        *(f"/changes?old={old}&new={new}", f"/changes?old={old}&new={new}&tables=yes", "/doctor"),
        *(f"/{kind}/v{new}/{session}" for kind in ("file", "structure")),
        *(f"/look/v{new}/{session}?look={look}" for look in ("unit", "waveform", "running")),
        f"/look/v{new}/{lfp}?look=lfp",
    )
    gates = [Gate(path, 150, 100_000, 30_000) for path in paths]
    gates.append(Gate("/plan", 150, 8_000, 2_000, (("all", "1"), ("lfp", "yes"))))
    with serve(three_sessions) as server, visiting(server) as visit:
        costs = costs_of(visit, server, gates)
    assert [f"{gate}: {found.text}" for gate, found in costs if not found.is_within(gate)] == []


def costs_of(visit: Visit, server: FakeS3Server, gates: Sequence[Gate]) -> "list[tuple[Gate, Cost]]":
    """What the views cost when they are asked for again."""
    loop, found = Loop(), []

    async def watch(_: object) -> None:
        trio.lowlevel.add_instrument(loop)

    visit.house.connection.run(watch)
    for gate in gates:
        answer(visit, gate)
        until(partial(asks_nothing, visit, server, gate))  # what was read ahead of the first look may be on its way
        loop.longest = 0.0
        with no_collection():
            costs = [answer(visit, gate) for _ in range(2)]
        cost = Cost(min(cost for cost, _ in costs), costs[0][1], server.count(), 1000 * loop.longest)
        found.append((gate, cost))
    return found


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage is collected: that goes through all that this process made for tests, at the cost of any view."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def asks_nothing(visit: Visit, server: FakeS3Server, gate: Gate) -> bool:
    """Whether S3 gets no request for an answer. None has been counted after that."""
    server.forget_requests()
    answer(visit, gate)
    return server.count() == 0


@dataclass(frozen=True)
class Cost:
    """What an answer took: milliseconds of the processes, requests to S3, the longest step of the event loop."""

    milliseconds: float
    body: bytes
    requests: int
    step_milliseconds: float

    @property
    def sent_bytes(self) -> int:
        """The answer, compressed."""
        return len(gzip.compress(self.body))

    @property
    def text(self) -> str:
        """All of it."""
        sizes = f"{len(self.body):,} bytes, {self.sent_bytes:,} compressed, {self.requests} requests"
        return f"{self.milliseconds:.0f} ms, {sizes}, event loop {self.step_milliseconds:.1f} ms"

    def is_within(self, gate: Gate) -> bool:
        """Whether none of it is more than a gate allows."""
        return (
            self.milliseconds <= gate.milliseconds
            and len(self.body) <= gate.answer_bytes
            and self.sent_bytes <= gate.sent_bytes
            and self.requests == 0
            and self.step_milliseconds <= MOST_STEP_MILLISECONDS
        )


def answer(visit: Visit, gate: Gate) -> tuple[float, bytes]:
    """Milliseconds of processor time for an answer, and the answer."""
    form: dict[str, list[str]] = {}
    for name, value in gate.form:
        form.setdefault(name, []).append(value)
    began = processor_seconds()
    found = visit.browser.post(gate.path, data=form) if form else visit.browser.get(gate.path)
    assert found.status_code == 200, found.text
    return 1000 * (processor_seconds() - began), found.content


def test_the_release_is_as_large_as_the_real_one(visit: Visit) -> None:
    """The list is the real one; the tables have its numbers of rows, and 160 MB."""
    manifest = visit.house.versions.manifest(None)
    assert len(manifest.files) == len(real_files()) == 4_298
    sizes = [visit.house.versions.size_bytes(file) or 0 for file in manifest.files if file.is_table]
    assert 155_000_000 < sum(sizes) < 165_000_000


def processor_seconds() -> float:
    """What this process has taken, and those that make quick looks: living ones (proc(5), `schedstat`), and ended."""
    ended, nanoseconds = resource.getrusage(resource.RUSAGE_CHILDREN), 0
    for child in children_of(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):  # waited for meanwhile
            nanoseconds += int(Path(f"/proc/{child}/schedstat").read_text().split()[0])
    return time.process_time() + ended.ru_utime + ended.ru_stime + nanoseconds / 1e9
