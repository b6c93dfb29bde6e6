"""Versions that are published while the page is served."""

import threading

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.waiting import until
from tests.web.conftest import visiting
from vbnfs.errors import StorageError
from vbnfs.web.renewing import Renewing

FILE = "project_metadata/units.csv"


def test_a_version_that_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands beside the others after `refresh` seconds, with its files and new notes, while somebody looks."""
    monkeypatch.setenv("VBNFS_REFRESH", "1")
    dataset = FakeDataset()
    dataset.publish("0.1.0", {FILE: b"unit_id\n1\n"})
    with FakeS3Server(dataset.store) as server, visiting(server) as visit:
        assert "0.2.0" not in visit.browser.get("/").text
        assert visit.browser.get("/notes").text.strip() == ""
        dataset.publish("0.2.0", {FILE: b"unit_id\n1\n2\n"})
        dataset.store.put(f"{dataset.project}/release_notes.txt", b"two units")
        until(lambda: "0.2.0" in visit.browser.get("/").text)
        assert "units.csv" in visit.browser.get("/files?version=0.2.0&folder=project_metadata").text
        assert visit.browser.get(f"/file/v0.2.0/{FILE}").status_code == 200
        until(lambda: "two units" in visit.browser.get("/notes").text)  # the old ones are forgotten a moment later


def test_it_is_asked_once_at_a_time_and_no_failure_is_seen() -> None:
    """Those who look meanwhile begin nothing; after a failure the next one asks again."""
    gate, asked = threading.Event(), list[int]()

    def renew() -> None:
        asked.append(len(asked))
        gate.wait()
        raise StorageError("S3 is away")

    renewing = Renewing(renew, seconds=0.0)
    for _ in range(3):
        renewing.look()
    until(lambda: bool(asked))
    renewing.look()
    assert asked == [0]
    gate.set()

    def asks_again() -> bool:
        renewing.look()
        return len(asked) > 1

    until(asks_again)


def test_it_is_not_asked_before_its_time() -> None:
    """Many views in a short time are no reason to ask."""
    asked = list[int]()
    renewing = Renewing(lambda: asked.append(1), seconds=3600.0)
    for _ in range(3):
        renewing.look()
    assert asked == []
