"""The release notes that a bucket may have."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.fakes.dataset import PROJECT, FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.web.conftest import Visit, visiting
from vbnfs.errors import OfflineError
from vbnfs.web.release_notes import ReleaseNotes

KEY = f"{PROJECT}/release_notes.txt"


@contextmanager
def page_with(notes: bytes | None) -> Iterator[tuple[Visit, FakeS3Server]]:
    """The page of a dataset whose bucket has these notes."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {"project_metadata/units.csv": b"unit_id\n1\n"})
    if notes is not None:
        dataset.store.put(KEY, notes)
    with FakeS3Server(dataset.store) as server, visiting(server) as visit:
        yield visit, server


def test_notes_are_text() -> None:
    """They stand below the versions, and come after the page; they are asked for once. Markup in them is text."""
    with page_with(b"# 0.1.0\r\n<script>alert(1)</script> \xff\n") as (visit, server):
        assert 'hx-get="./notes"' in visit.browser.get("/").text
        assert KEY not in str(server.requests)
        answer = visit.browser.get("/notes").text
        assert ">Release notes</h2>" in answer
        assert "# 0.1.0\n&lt;script&gt;alert(1)&lt;/script&gt; \ufffd</pre>" in answer
        before = len(server.requests)
        assert visit.browser.get("/notes").text == answer
        assert len(server.requests) == before


def test_there_are_none() -> None:
    """Nothing is shown where the bucket has none, and where there is too much of them."""
    for notes in (None, b"x" * (300 << 10)):
        with page_with(notes) as (visit, _):
            assert visit.browser.get("/notes").text.strip() == ""


def test_what_failed_is_asked_again() -> None:
    """Without a network nothing is shown; with one again, they are there."""
    answers: list[str | None] = ["0.5.0", None]

    def read() -> str:
        answer = answers.pop()
        if answer is None:
            raise OfflineError("no network")
        return answer

    notes = ReleaseNotes(read)
    assert [notes.text() for _ in range(3)] == ["", "0.5.0", "0.5.0"]
