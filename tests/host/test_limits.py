"""What a process grants itself no more. Each is tried in a process of its own."""

import errno
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")


def ended(code: str) -> "subprocess.CompletedProcess[str]":
    """A process that has run some lines."""
    lines = f"from vbnfs.host.limits import *\n{code}"
    return subprocess.run([sys.executable, "-c", lines], check=False, capture_output=True, text=True, timeout=60)


def test_nothing_more_is_opened() -> None:
    """No file and no socket; what is open stays so, and is written to."""
    for trial in ("open('/dev/null')", "__import__('_socket').socket()"):
        code = f"import _socket\nopen_nothing_more()\ntry: {trial}\nexcept OSError as error: print(error.errno)"
        assert ended(code).stdout == f"{errno.EMFILE}\n"


def test_processor_time() -> None:
    """The kernel ends what takes more, however much time it had before."""
    assert ended("take_little_time(0)\ntake_little_time(1)\nwhile True: pass").returncode == -signal.SIGXCPU


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what is allocated so")
def test_memory() -> None:
    """What would need more fails, and the process goes on; if the machine has none left, it is the first to end."""
    code = (
        "take_little_memory(1 << 30)\ntry: bytearray(2 << 30)\nexcept MemoryError: print('too much')\n"
        "print(open('/proc/self/oom_score_adj').read().strip(), most_data_bytes())"
    )
    assert ended(code).stdout == f"too much\n1000 {1 << 30}\n"
