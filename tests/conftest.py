"""What all tests share: plugins with fixtures, and the rule that FUSE tests are not skipped where there is FUSE."""

import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from vbnfs.s3.trust import VARIABLES

pytest_plugins = ["tests.fixtures_s3", "tests.fixtures_mount", "tests.fixtures_receiving", "tests.door"]

# A busy machine is no failure: no example has a deadline.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
# For script/fuzz: the same properties as in the suite, with more examples.
settings.register_profile(
    "fuzz", max_examples=int(os.environ.get("VBNFS_FUZZ_EXAMPLES", "500")), deadline=None, print_blob=True
)

# A shell without job control starts background commands with SIGINT ignored, and all that they start inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FUSE_DEVICE = Path("/dev/fuse")
ROOT_ONLY = {"namespace", "guest"}  # fixtures
NOT_ROOT = "only root can do what this test does: run script/test as root"
TESTS = Path(__file__).parent
NO_FLOORS = {"scenarios", "demo", "benchmarks", "portable", "deploy"}  # folders of tests that mirror no floor
MAKE_MOUNTS = {"mounts", "mountpoint"}  # fixtures
NEED_MOUNTS, NEED_NONE = {"filesystem", "daemon", "scenarios"}, {"network"}  # folders


@pytest.fixture(autouse=True)
def _plain_logging() -> Iterator[None]:
    """No test inherits how another one set up logging."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def _same_umask() -> Iterator[None]:
    """No test leaves another umask to those after it: what they make for all users would be for none."""
    before = umask()
    yield
    assert oct(umask()) == oct(before)


def umask() -> int:
    """What new files withhold from others. It can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@pytest.fixture(autouse=True)
def _same_handlers() -> Iterator[None]:
    """No test leaves another handler of a signal: those after it that are interrupted would not be."""
    before = handlers()
    yield
    assert handlers() == before


def handlers() -> list[object]:
    """What is done at signals that vbnfs handles."""
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE)
    return [signal.getsignal(number) for number in handled]


@pytest.fixture(scope="session", autouse=True)
def _no_reserve() -> Iterator[None]:
    """What the disk of the machine has free plays no part in tests, nor in what several of them share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBNFS_CACHE_RESERVE", "0")
        yield


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings of the user who runs the tests play no part in them."""
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VBNFS_LOG_FILE", str(tmp_path / "vbnfs.log"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", *VARIABLES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where there is FUSE, a skipped test is a failure: nothing is left out unnoticed.

    But for those that only root can run, and slow ones, which are listed.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    unnoticed = [r for r in skipped if "slow" not in r.keywords and NOT_ROOT not in str(r.longrepr)]
    if FUSE_DEVICE.exists() and unnoticed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _when(items: list[pytest.Item]) -> Callable[[pytest.Item], tuple[bool, int]]:
    """The order of files: those with slow tests, then those with many, so that no process ends with a long one alone.

    script/test gives each of its processes whole files, in this order.
    """
    count = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    return lambda item: (item.path not in slow, -count[item.path])


def pytest_collection_finish() -> None:
    """What was collected stays. A test that collects garbage, to count open files, need not go through all of it."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need FUSE are skipped on a machine that has none, and those that need root for others.

    Tests that mirror no module are scenarios. Coverage is measured without them.
    """
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in NO_FLOORS:
            item.add_marker("scenario")
        is_for_root = item.get_closest_marker("root") or ROOT_ONLY & set(getattr(item, "fixturenames", ()))
        if os.geteuid() != 0 and is_for_root:
            item.add_marker(pytest.mark.skip(reason=NOT_ROOT))
    items.sort(key=_when(items))
    if FUSE_DEVICE.exists():
        return
    for item in items:
        folders = NEED_MOUNTS.intersection(item.path.parts) and NEED_NONE.isdisjoint(item.path.parts)
        if folders or MAKE_MOUNTS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason=f"no {FUSE_DEVICE} on this machine"))
