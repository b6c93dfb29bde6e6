"""What the daemon and the process that receives say to each other, as bytes and back."""

import inspect
import json
from dataclasses import is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs import errors
from vbnfs.errors import BusyError, StorageError
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest, Stored, StorePlan
from vbnfs.s3 import receiver_messages
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.ranges import Done, Event, Failed, RangeGet
from vbnfs.s3.receiver_codec import MESSAGES, decode, encode
from vbnfs.s3.receiver_messages import Begin, Came, End, Ended, Ping, Pong, Ready, Retired, Said, Setup, Taken
from vbnfs.s3.replies import Head
from vbnfs.s3.trust import Trust

REQUEST = RangeRequest(ObjectVersion("key/µ.nwb", "v1"), ByteRange(5, 9), 100, is_anew=True)
GET = RangeGet("http://s3", "http://s3/key", (("Range", "bytes=5-8"), ("User-Agent", "vbnfs")), REQUEST)
EVENTS: list[Event] = [
    Head(206, {"content-range": "bytes 5-8/100", "x": "\udcff"}), Piece(5, b""), Piece(5, bytes(range(256))),
    Stored(5, 9), Done(),
]  # fmt: skip
EXAMPLES: list[object] = [
    Setup("1.0", Trust(b"-----BEGIN", "/etc/ssl (SSL_CERT_DIR)"), None, 4),
    Setup("1.0", Trust(), Proxy("http", "proxy", 3128, "HTTPS_PROXY", b"n\xe4me", b"\0"), 4),
    Begin(7, GET, StorePlan("content", 100, 0, b"\0\xff" * 8), 3),
    Begin(7, GET, StorePlan("content", 100, 0, None, are_shared=True), 3),
    Begin(7, GET, None, 3),
    Taken(7, 1 << 40), End(7), Ping(), Ready(), Ended(7), Retired(), Pong(),
    Said("info", "an event", {"reason": "one\nline", "": "\0"}),
    *(Came(7, event) for event in EVENTS),
]  # fmt: skip
ERRORS = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, StorageError)]
VALUES: dict[str, list[object]] = {
    "retry_after_seconds": [2.5, 2, None], "found": [b"", b"\0\xff"], "remedy": ["µ: do it", None],
}  # fmt: skip

# Surrogates, too, which JSON can join to another character.
texts = st.text(st.characters() | st.characters(categories=["Cs"]))
ranges = st.tuples(st.integers(0), st.integers(0)).map(lambda ends: ByteRange(*sorted(ends)))
versions = st.builds(ObjectVersion, texts, st.none() | texts, st.none() | texts)
requests = st.builds(RangeRequest, versions, ranges, st.integers(0), st.booleans(), st.none())
gets = st.builds(RangeGet, texts, texts, st.lists(st.tuples(texts, texts)).map(tuple), requests)
plans = st.builds(StorePlan, texts, st.integers(0), st.integers(0), st.none() | st.binary())


def written(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back(message: object) -> None:
    """As an equal value of the same class."""
    found = decode(encode(message))
    assert found == message
    assert type(found) is type(message)


def test_all_messages_are_known() -> None:
    """Each class of messages is among the registered ones, and among the examples above."""
    declared = {one for one in vars(receiver_messages).values() if is_dataclass(one) and own(one)}
    assert declared == set(MESSAGES) == {type(example) for example in EXAMPLES}


def own(kind: Any) -> bool:
    return kind.__module__ == receiver_messages.__name__


@given(gets, st.none() | plans, st.integers())
def test_any_get_comes_back(get: RangeGet, plan: StorePlan | None, number: int) -> None:
    """A GET and its plan do, whatever keys, fields and digests are; also with characters that UTF-8 does not have."""
    message = Begin(number, get, plan, number)
    assert decode(encode(message)) == message


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_comes_back(kind: type[StorageError]) -> None:
    """Each class of storage errors does, with its message and all that it has besides, so with errno and remedy."""
    more = [name for name, one in inspect.signature(kind.__init__).parameters.items() if one.kind is one.KEYWORD_ONLY]
    for index in range(3):
        values = {name: VALUES[name][index % len(VALUES[name])] for name in more}
        error = kind("µ: it failed", **values)
        found = decode(encode(Came(7, Failed(error)))).event.error
        assert type(found) is kind
        assert (found.args, vars(found)) == (error.args, vars(error))
        assert (found.errno, found.remedy) == (error.errno, error.remedy)


def test_there_are_errors_with_more_than_a_message() -> None:
    """The test above is about them, too."""
    assert len(ERRORS) > 15
    assert BusyError in ERRORS
    assert vars(BusyError("", retry_after_seconds=2)) == {"retry_after_seconds": 2}


class StrangeError(StorageError):
    """An error that errors.py does not have."""


@pytest.mark.parametrize(
    "value",
    [
        7, None, b"", {}, object(), Piece(5, b""), Trust(b"", ""), StorageError("no message"),
        Came(7, Failed(StrangeError("no"))),
        Came(7, object()),  # type: ignore[arg-type]
        Begin(7, GET, {1, 2}, 3),  # type: ignore[arg-type]
        Begin(7, RangeGet("", "", (), RangeRequest(REQUEST.version, ByteRange(5, 9), 100, sink=object())), None, 3),  # type: ignore[arg-type]
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_message_is_not_written(value: object) -> None:
    """Nor is one that has a value of another class within, such as a sink."""
    with pytest.raises(TypeError, match="not a "):
        encode(value)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"{", b"\x80\x04K\x07.", b"[" * 100_000,
        *map(
            written,
            [
                7, None, [], {}, "End", ["End"], {"End": None}, {"End": []}, {"End": {"number": 7}, "Ping": {}},
                {"Unknown": {}}, {"Popen": {"args": "true"}}, {"BaseException": {"message": ""}},
                {"Piece": {"start": 5, "data": ""}}, {"StorageError": {"message": "no message"}},
                {"End": {}}, {"End": {"number": 7, "more": 7}}, {"End": {"number": "7"}}, {"End": {"number": True}},
                {"End": {"number": 7.0}}, {"End": {"number": None}}, {"End": {"number": {"End": {"number": 7}}}},
                {"Came": {"number": 7, "event": None}}, {"Came": {"number": 7, "event": {"Ping": {}}}},
                {"Came": {"number": 7, "event": {"Piece": {"start": 5, "data": "?"}}}},
                {"Came": {"number": 7, "event": {"Piece": {"start": 5, "data": [1]}}}},
                {"Came": {"number": 7, "event": {"Head": {"status": 206, "fields": {"a": 1}}}}},
                {"Came": {"number": 7, "event": {"Failed": {"error": {"Done": {}}}}}},
                {"Came": {"number": 7, "event": {"Failed": {"error": {"VbnfsError": {"message": ""}}}}}},
                {"Came": {"number": 7, "event": {"Failed": {"error": {"BusyError": {"message": ""}}}}}},
                {"Came": {"number": 7, "event": {"Failed": {"error": {"StorageError": {"message": "", "a": 1}}}}}},
                {"Said": {"level": "info", "event": "", "fields": [["a", "b"]]}},
            ],
        ),
    ],
    ids=lambda body: repr(body[:90]),
)  # fmt: skip
def test_what_is_no_message_is_refused(body: bytes) -> None:
    """Another class, one in the wrong place, a field too many or too few, a value of another type."""
    with pytest.raises(ValueError, match="not a message"):
        decode(body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("byte_range", {"ByteRange": {"start": 9, "stop": 5}}),
        ("sink", {"Done": {}}),
        ("version", None),
        ("is_anew", 1),
    ],
)
def test_a_get_that_is_none_is_refused(name: str, value: object) -> None:
    """A range that ends before it begins, a sink, a version that is none."""
    message = json.loads(encode(Begin(7, GET, None, 3)))
    assert decode(written(message)) == Begin(7, GET, None, 3)
    message["Begin"]["get"]["RangeGet"]["request"]["RangeRequest"][name] = value
    with pytest.raises(ValueError, match="not a message"):
        decode(written(message))


@pytest.mark.parametrize("fields", [[["a"]], [["a", "b", "c"]], [["a", 1]], ["ab"], {"a": "b"}])
def test_header_fields_that_are_none_are_refused(fields: object) -> None:
    """They are pairs of texts."""
    message = json.loads(encode(Begin(7, GET, None, 3)))
    message["Begin"]["get"]["RangeGet"]["fields"] = fields
    with pytest.raises(ValueError, match="not a message"):
        decode(written(message))


@given(st.binary() | st.recursive(st.none() | st.integers() | texts, st.lists).map(written))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing but `ValueError` comes of what is no message."""
    with pytest.raises(ValueError, match="not a message"):
        decode(body)
