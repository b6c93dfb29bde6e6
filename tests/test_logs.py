"""Logging: a warning that repeats itself is logged once, and the last lines are kept."""

import io
import json
import logging
import threading

import structlog
from cachetools import TTLCache

from vbnfs.logs import WarnOnce, configure_logging, log_tail


def test_a_warning_is_logged_once() -> None:
    """The same event with the same values is logged once; other values are another warning."""
    warn = WarnOnce()
    with structlog.testing.capture_logs() as logs:
        for reason in ("full", "full", "read-only", "full"):
            warn("not written", reason=reason)
        warn("not read", reason="full")
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("not written", "full"),
        ("not written", "read-only"),
        ("not read", "full"),
    ]
    assert {entry["log_level"] for entry in logs} == {"warning"}


def test_a_key_says_what_repeats_a_warning() -> None:
    """With a key, values may differ: the first of them is logged."""
    warn = WarnOnce()
    with structlog.testing.capture_logs() as logs:
        for number in range(3):
            warn("not written", key="full", file=str(number))
    assert [entry["file"] for entry in logs] == ["0"]


def test_a_warning_is_logged_again_after_its_time() -> None:
    """When the time has passed, the same warning is logged again."""
    warn = WarnOnce(again_after_seconds=0.0)
    with structlog.testing.capture_logs() as logs:
        warn("not written", reason="full")
        warn("not written", reason="full")
    assert len(logs) == 2


def test_warnings_take_bounded_memory() -> None:
    """Of any number of different warnings 1,024 are remembered: each is logged, and the oldest are forgotten."""
    warn = WarnOnce()
    with structlog.testing.capture_logs() as logs:
        for number in range(2_000):
            warn("x", number=str(number))
        warn("x", number="1999")
        warn("x", number="0")
    assert [entry["number"] for entry in logs] == [*map(str, range(2_000)), "0"]
    [remembered] = [value for value in vars(warn).values() if isinstance(value, TTLCache)]
    assert len(remembered) == 1_024


def test_threads_log_a_warning_once() -> None:
    """Threads that warn at the same time log one line."""
    warn, barrier = WarnOnce(), threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for number in range(100):
            warn("x", number=str(number))

    with structlog.testing.capture_logs() as logs:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(logs) == 100


def test_the_end_of_the_log() -> None:
    """While it is kept, the last lines are there as JSON, of so many bytes at the most; a long one is cut."""
    configure_logging(io.StringIO(), level="info", as_json=False)
    log = structlog.get_logger()
    with log_tail() as tail:
        log.info("first", file="a")
        log.debug("not this one")
        logging.getLogger("httpx").warning("of a library")
        lines = [json.loads(line) for line in tail.text().splitlines()]
        assert [(line["event"], line["level"]) for line in lines] == [("first", "info"), ("of a library", "warning")]
        for number in range(2000):
            log.info("filling", number=number)
        assert 60_000 < len(tail.text()) <= 64 << 10
        assert json.loads(tail.text().splitlines()[-1])["number"] == 1999
        log.info("x" * (100 << 10))
        assert len(tail.text()) == 64 << 10
    log.info("after")
    assert b"after" not in tail.text()
