"""What all tests share: plugins with fixtures, and the rule that FUSE tests are not skipped where there is FUSE."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

pytest_plugins = ["tests.fixtures_s3", "tests.fixtures_mount"]

# For script/fuzz: the same properties as in the suite, with more examples.
settings.register_profile("fuzz", max_examples=500, deadline=None, print_blob=True)

FUSE_DEVICE = Path("/dev/fuse")


@pytest.fixture(autouse=True)
def _plain_logging() -> Iterator[None]:
    """No test inherits how another one set up logging."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings of whoever runs the tests play no part in them."""
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VBNFS_LOG_FILE", str(tmp_path / "vbnfs.log"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where there is FUSE, a skipped test is a failure: nothing is left out unnoticed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and FUSE_DEVICE.exists() and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need FUSE are skipped on a machine that has none, and there only."""
    if FUSE_DEVICE.exists():
        return
    for item in items:
        if "mounts" in getattr(item, "fixturenames", ()) or item.path.parent.name == "mount":
            item.add_marker(pytest.mark.skip(reason=f"no {FUSE_DEVICE} on this machine"))
