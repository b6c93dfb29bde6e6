"""What a cache hands on to another one comes from outside when it is read."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.dataset.handed_on import HandedOn, decode
from vbnfs.errors import DatasetError
from vbnfs.objects import ListedObject, ObjectAttributes, ObjectVersion

MANIFEST = ListedObject("p/manifests/p_project_manifest_v1.0.0.json", ObjectAttributes(10, 20, "etag"))
OTHER = ListedObject("p/manifests/p_project_manifest_v2.0.0.json", ObjectAttributes(30, 40, "etag"))
OBJECT = ObjectVersion("p/a.nwb", "v1")
HANDED = HandedOn("bucket", "p", (MANIFEST,), {OBJECT: ObjectAttributes(5, 6, None)})


def changed(**values: Any) -> bytes:
    return json.dumps(json.loads(HANDED.encode()) | values).encode()


def test_there_and_back() -> None:
    """What was handed on is read as it was."""
    assert decode(HANDED.encode()) == HANDED


def test_an_earlier_one_is_joined() -> None:
    """What an earlier one knew besides stays; where both know something, the newer one counts."""
    earlier = HandedOn("bucket", "p", (MANIFEST, OTHER), {OBJECT: ObjectAttributes(7, 8, "old")})
    joined = HANDED.joined(earlier)
    assert joined.manifests == (MANIFEST, OTHER)
    assert joined.objects == HANDED.objects


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 100_000,
        b"[]",
        b'{"format": 1}',
        changed(format=2),
        changed(bucket=1),
        changed(bucket="a\nb"),
        changed(manifests=[["p/manifests/none.json", "", 1, 1]]),
        changed(manifests=[["p/manifests/p_manifest_v1.json", "", 1]]),
        changed(manifests=[["p/manifests/p_manifest_v1.json", "", 1, 1]] * 1001),
        changed(objects=[["key", "version", -1, 1, None]]),
        changed(objects=[["key", "version", 1, True, None]]),
        changed(objects=[["key", "version", 1 << 60, 1, None]]),
        changed(objects=[["key", None, 1, 1, None]]),
        changed(objects=[[["key"], "version", 1, 1, None]]),
        changed(objects=5),
    ],
)
def test_what_is_none(data: bytes) -> None:
    """Bytes that are no such file are refused, as one error of the dataset."""
    with pytest.raises(DatasetError):
        decode(data)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_damage(damage: bytes, at: int) -> None:
    """Whatever happened to the file, it is read, or refused by one error."""
    data = HANDED.encode()
    with suppress(DatasetError):
        decode(data[:at] + damage + data[at + len(damage) :])
