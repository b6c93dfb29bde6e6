"""Messages, bytes and open files between two processes."""

import json
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.open_files import open_files
from vbnfs.host.message_link import Codec, Letter, Link, Sender

JSON = Codec(lambda message: json.dumps(message).encode(), json.loads)


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    one, other = (Link(end, JSON) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


def heard(link: Link) -> Letter:
    letter = link.receive()
    assert letter is not None
    return letter


def test_messages_come_in_order_with_their_bytes(ends: tuple[Link, Link]) -> None:
    """However long, and although the socket takes only a part of them at a time."""
    one, other = ends
    sender = Sender(one)
    bodies = [b"", os.urandom(5 << 20), b"x", os.urandom(300_000)]
    for number, body in enumerate(bodies):
        sender.put({"number": number, "text": "µ" * number * 1000}, body)
    for number, body in enumerate(bodies):
        assert heard(other) == Letter({"number": number, "text": "µ" * number * 1000}, body)
    one.end()
    assert other.receive() is None
    sender.stop()


def test_files_come_with_their_message(ends: tuple[Link, Link], tmp_path: Path) -> None:
    """Descriptors are those of the message with which they were sent, though others stand around it."""
    one, other = ends
    paths = [tmp_path / name for name in "abcd"]
    files = [os.open(path, os.O_RDWR | os.O_CREAT) for path in paths]
    for letter in (Letter(0), Letter(1, b"12", tuple(files[:2])), Letter(2, b"3"), Letter(3, b"", tuple(files[2:]))):
        one.send(letter)
    for file in files:
        os.close(file)
    for number, count in enumerate([0, 2, 0, 2]):
        letter = heard(other)
        assert (letter.message, len(letter.descriptors)) == (number, count)
        for descriptor in letter.descriptors:
            os.write(descriptor, b"%d" % number)
            os.close(descriptor)
    assert [path.read_bytes() for path in paths] == [b"1", b"1", b"3", b"3"]


def test_files_for_which_there_is_no_room(ends: tuple[Link, Link]) -> None:
    """A process that can open no more files gets the message without them, and the next ones as they are."""
    one, other = ends
    file = os.open(os.devnull, os.O_RDONLY)
    one.send(Letter("with", b"1", (file, file)))
    one.send(Letter("without"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = len(open_files())
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, before[1]))
    try:
        letters = [heard(other), heard(other)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert letters == [Letter("with", b"1"), Letter("without")]
    assert len(open_files()) == count
    os.close(file)


def test_an_end_within_a_message_is_an_error() -> None:
    """So is what is no message; an end between two messages is none."""
    for words in (b"\5\0\0\0", b"\5\0\0\0\0\0\0\0abc", b"\0\0\0\0\4\0\0\0abc", b"\3\0\0\0\0\0\0\0abc"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(words)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(OSError, match=r"Broken pipe|Protocol error"):
                Link(ours, JSON).receive()


def test_what_is_no_message_is_not_sent(ends: tuple[Link, Link]) -> None:
    """An error of the link, which goes on; a sender ends its link, so that the other end does not wait."""
    one, other = ends
    with pytest.raises(OSError, match="Protocol error"):
        one.send(Letter(object()))
    one.send(Letter("good"))
    assert heard(other) == Letter("good")
    sender = Sender(one)
    sender.put(object())
    assert other.receive() is None
    sender.stop()


def test_silence_is_noticed() -> None:
    """It is, while a message is waited for and within one; waiting goes on, and what comes then is good."""
    ours, theirs = socket.socketpair()
    noticed = threading.Semaphore(0)
    with ours, theirs:
        link, found = Link(ours, JSON, silence_seconds=0.01, on_silence=noticed.release), list[Letter | None]()
        thread = threading.Thread(target=lambda: found.append(link.receive()))
        thread.start()
        noticed.acquire()
        body = b"7"
        theirs.sendall(len(body).to_bytes(4, "little") + b"\2\0\0\0" + body)
        for _ in range(3):
            noticed.acquire()
        theirs.sendall(b"ok")
        thread.join()
    assert found == [Letter(7, b"ok")]


def test_what_is_put_after_the_end_is_lost(ends: tuple[Link, Link]) -> None:
    """A sender whose other end is gone ends without an error, and keeps no thread."""
    one, other = ends
    sender = Sender(one)
    other.end()
    for _ in range(100):
        sender.put("lost", bytes(100_000))
    assert one.receive() is None
    sender.stop()
    assert not sender._thread.is_alive()
