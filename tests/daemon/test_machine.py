"""What the machine allows of what the settings ask for."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from vbnfs.config.settings import MIB, Config
from vbnfs.config.sources import load_config
from vbnfs.daemon import machine
from vbnfs.daemon.machine import _below_the_kernels_timeout, _within_the_cgroup
from vbnfs.host.cgroup import memory_limit_bytes


def within(allow: Callable[[Config], Config], **settings: str) -> tuple[Config, list[str]]:
    """What is left of the settings, and the warnings that tell of it."""
    with capture_logs() as logs:
        config = allow(load_config(command_line=settings, environ={}))
    return config, [f"{line['log_level']}: {line['event']}" for line in logs]


@pytest.mark.parametrize(
    ("limits", "asked", "expected"),
    [
        ({}, 30, 30),  # before Linux 6.15
        ({"default": "0", "max": "0"}, 30, 30),
        ({"default": "600", "max": "0"}, 30, 30),
        ({"default": "0", "max": "600"}, 30, 30),
        ({"default": "20", "max": "0"}, 30, 16),
        ({"default": "0", "max": "20"}, 30, 16),
        ({"default": "600", "max": "20"}, 30, 16),
        ({"default": "20", "max": "600"}, 30, 16),
        ({"default": "20", "max": "0"}, 15, 15),
        ({"default": "600", "max": "0"}, 1000, 480),
        ({"default": "many", "max": ""}, 30, 30),
    ],
)
def test_requests_are_answered_before_the_kernel_gives_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limits: dict[str, str], asked: int, expected: int
) -> None:
    """--io-timeout is at most four fifths of the stricter of the kernel's limits, 0 being none; a warning tells."""
    for name, text in limits.items():
        (tmp_path / f"{name}_request_timeout").write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_FUSE_SYSCTLS", tmp_path)
    config, warnings = within(_below_the_kernels_timeout, io_timeout=str(asked))
    assert config.io_timeout_seconds == pytest.approx(expected)
    strictest = min((int(text) for text in limits.values() if text.isdecimal() and int(text)), default=math.inf)
    assert config.most_answer_seconds == pytest.approx(strictest * 0.8)  # of a read that --limit-rate holds back, too
    lowered = "warning: --io-timeout lowered: the kernel (fs.fuse.*_request_timeout) waits no longer"
    assert warnings == ([lowered] if expected < asked else [])


@pytest.mark.parametrize(
    ("allowed", "asked", "expected"),
    [
        ("max", 256, 256),
        (str(1000 * MIB), 256, 256),
        (str(512 * MIB), 256, 256),
        (str(100 * MIB), 256, 50),
        (str(100 * MIB), 20, 20),
        (str(10 * MIB), 256, 16),  # nothing can be read with less
        (str(10 * MIB), 16, 16),
        ("0", 256, 16),
    ],
)
def test_memory_keeps_within_the_control_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: str, asked: int, expected: int
) -> None:
    """--memory-limit is at most half of what the control group allows, and 16 MiB at least; a warning tells."""
    (tmp_path / "cgroup").write_text("0::/group\n")
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "memory.max").write_text(f"{allowed}\n")
    read = partial(memory_limit_bytes, proc=tmp_path / "cgroup", mounted=tmp_path)
    monkeypatch.setattr(machine, "memory_limit_bytes", read)
    config, warnings = within(_within_the_cgroup, memory_limit=f"{asked}M")
    assert config.memory_limit_bytes == expected * MIB
    lowered = "warning: --memory-limit lowered: the control group allows no more"
    assert warnings == ([lowered] if expected < asked else [])
