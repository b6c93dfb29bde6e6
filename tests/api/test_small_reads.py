"""Small reads that go on in one block: what is copied from memory, and what is noted of it."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vbnfs
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from vbnfs.api.small_reads import SmallReads, Window
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.verdict import Verdict
from vbnfs.cache.verdicts import Verdicts
from vbnfs.objects import Content

NAME = "behavior_ecephys_sessions/7/ecephys_session_7.nwb"
SIZE = 5 * BLOCK_BYTES + 77
BYTES = Pattern(SIZE, seed=3)[:]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A dataset of one file."""
    with serve({"0.1.0": {NAME: BYTES}}) as server:
        yield server


@pytest.fixture
def file(server: FakeS3Server) -> Iterator[vbnfs.RemoteFile]:
    """That file, opened."""
    with vbnfs.Dataset(endpoint_url=server.endpoint_url) as dataset, dataset.open(NAME) as file:
        yield file


def read(file: vbnfs.RemoteFile, offset: int, size: int) -> bytes:
    """What h5py does for each of its reads."""
    buffer = bytearray(size)
    file.seek(offset)
    return bytes(buffer[: file.readinto(buffer)])


def test_many_small_reads_of_a_block_ask_the_disk_once(
    file: vbnfs.RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 700 reads of 4 bytes in one block, the first two ask the disk, and so do the first two of the next one."""
    read(file, 0, SIZE)
    asked, known = list[int](), ContentFile.read_bytes

    def counted(content: ContentFile, offset: int, size: int) -> bytes | None:
        asked.append(size)
        return known(content, offset, size)

    monkeypatch.setattr(ContentFile, "read_bytes", counted)
    for start in (0, BLOCK_BYTES):
        for offset in range(start, start + BLOCK_BYTES, 344):
            assert read(file, offset, 4) == BYTES[offset : offset + 4]
    assert asked == [BLOCK_BYTES, BLOCK_BYTES]


@given(
    st.lists(
        st.tuples(
            st.integers(0, SIZE + 9), st.one_of(st.integers(0, 9), st.sampled_from([4095, 4096, 4097, BLOCK_BYTES]))
        ),
        max_size=40,
    )
)
def test_any_reads_are_right(reads: list[tuple[int, int]]) -> None:
    """Whatever the places and sizes: a window has the bytes of the file, or does not answer."""
    small, window = SmallReads(), None
    for offset, size in reads:
        buffer = bytearray(size)
        if window is not None and window.copy(memoryview(buffer), offset):
            assert bytes(buffer) == BYTES[offset : offset + size]
        elif small.goes_on(offset, size):
            start = offset - offset % BLOCK_BYTES
            window = Window(
                start, min(start + BLOCK_BYTES, SIZE), memoryview(BYTES)[start:][:BLOCK_BYTES], offset, offset
            )


def test_what_was_read_is_noted_in_runs() -> None:
    """Reads less than a page apart are one run; one that is farther on, or before it, is not answered."""
    window = Window(0, BLOCK_BYTES, memoryview(BYTES)[:BLOCK_BYTES], 100, 100)
    buffer = memoryview(bytearray(4))
    assert window.copy(buffer, 100)
    assert window.copy(buffer, 4200)
    assert (window.first, window.last) == (100, 4204)
    assert not window.copy(buffer, 4204 + 4097)
    assert not window.copy(buffer, 96)
    assert window.copy(buffer, 104)
    assert window.last == 4204


def test_a_file_that_is_found_wrong_is_read_no_more(file: vbnfs.RemoteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small reads that go on in one block end as all others do when the file proves to have another hash."""
    assert [read(file, offset, 4) for offset in (0, 4, 8)] == [BYTES[offset : offset + 4] for offset in (0, 4, 8)]
    wrong = Verdict("0" * 128, "", "2026-11-30T00:00:00+00:00")
    original = Verdicts.refuse

    def refuse(verdicts: Verdicts, content: Content) -> None:
        verdicts._bad = {content.content_id: wrong}
        original(verdicts, content)

    monkeypatch.setattr(Verdicts, "bad", lambda verdicts, content: wrong)
    monkeypatch.setattr(Verdicts, "refuse", refuse)
    with pytest.raises(OSError, match="instead of the manifest's"):
        read(file, 12, 4)
