"""What the process's environment says."""

import subprocess
import sys

import pytest

from vbnfs.config.environment import Supervisor, load_supervisor


@pytest.mark.parametrize(
    ("environ", "supervisor"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1"}, None),
        ({"NOTIFY_SOCKET": "/run/n"}, Supervisor("/run/n", None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2500000"}, Supervisor("@n", 2.5)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, Supervisor("/n", 2.0)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, Supervisor("/n", None)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, Supervisor("/n", None)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, Supervisor("/n", None)),
    ],
)
def test_supervisor(environ: dict[str, str], supervisor: Supervisor | None) -> None:
    """sd_notify(3)'s variables: a socket of this machine, and a watchdog, if it is meant for this process."""
    assert load_supervisor(environ, pid=7) == supervisor


# Run with the number of a user that no list of users has. What is imported may be out of that user's reach.
AS_A_USER_WITHOUT_A_HOME = """
import os
import vbnfs.config.environment as found
from platformdirs import unix
os.setresuid(2147480000, 2147480000, 2147480000)
print(found.user_cache_directory(), found.user_log_file(), found.default_config_file())
"""


@pytest.mark.root
def test_a_user_without_a_home() -> None:
    """Where neither HOME nor the list of users has a home, the folders lie in one that does not exist."""
    command = [sys.executable, "-c", AS_A_USER_WITHOUT_A_HOME]
    done = subprocess.run(command, capture_output=True, text=True, env={}, check=False)
    assert done.stdout.split() == [
        "/nonexistent/.cache/vbnfs",
        "/nonexistent/.local/state/vbnfs/log/vbnfs.log",
        "/nonexistent/.config/vbnfs/config.toml",
    ], done.stderr
