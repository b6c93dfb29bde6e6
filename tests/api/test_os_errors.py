"""What goes wrong is said as Python has it: settings and arguments by their names, and no options of commands."""

import inspect
from collections.abc import Iterator

import pytest

import vbnfs
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, always, error
from vbnfs import errors
from vbnfs.api.os_errors import in_python
from vbnfs.errors import AccessDeniedError, StorageError, UnreachableError, UsageError


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of one file."""
    with serve({"0.1.0": {"a.bin": b"bytes"}}) as server:
        yield server


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allow more time by --io-timeout", "allow more time by io_timeout"),
        ("read a copy (--mirror, or --endpoint-url)", "read a copy (mirror, or endpoint_url)"),
        ("add --sessions QUERY", "add sessions QUERY"),
        ("'vbnfs clean --cache-size 5G' takes them", "'vbnfs clean --cache-size 5G' takes them"),
        ("docker run --device /dev/fuse", "docker run --device /dev/fuse"),
        ("/data/--cache-size: no such file", "/data/--cache-size: no such file"),
    ],
)
def test_options_are_names(text: str, said: str) -> None:
    """Options that are settings or arguments lose their dashes; commands that are quoted, and paths, stay."""
    assert in_python(text) == said


def test_every_remedy() -> None:
    """No remedy of a failure names an option."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, StorageError)]
    assert [kind for kind in kinds if "--" in in_python(kind.remedy)] == []


def test_where_it_is_raised(server: FakeS3Server) -> None:
    """A wrong setting, a server that is not there or refuses, what is not to be had offline: each in these words."""
    with pytest.raises(UsageError, match=r"^cache_size: 'much' will not do"):
        vbnfs.Dataset(cache_size="much")
    with pytest.raises(UnreachableError) as unreachable:
        vbnfs.Dataset(endpoint_url="http://127.0.0.1:9").versions  # noqa: B018 - asks S3
    assert unreachable.value.__notes__ == [unreachable.value.remedy]
    assert "endpoint_url and the proxy variables" in unreachable.value.remedy
    with vbnfs.Dataset(endpoint_url=server.endpoint_url) as dataset:
        assert dataset.latest.verify(["a.bin"])["detail"].tolist() == ["fetch fetches what is missing"]
        server.behaviours.append(always(error(403, "AccessDenied")))
        with pytest.raises(PermissionError, match=r"check bucket, or read it in another") as denied:
            dataset.open("a.bin").read()
        assert isinstance(denied.value.__cause__, AccessDeniedError)
    with (
        vbnfs.Dataset(endpoint_url=server.endpoint_url, offline=True) as offline,
        pytest.raises(OSError, match="leave offline out"),
    ):
        offline.open("a.bin").read()
