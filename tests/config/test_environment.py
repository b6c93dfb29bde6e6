"""What the process's environment says."""

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
