"""Whatever comes from outside, vbnfs answers or refuses it: properties that no other file has.

Manifests, names, tables, listings, HTTP headers, mountinfo and settings have theirs beside their other tests;
`script/fuzz` runs all of them with many more examples.
"""

import errno
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dataset.build import BUCKET, ORIGIN, PROJECT, manifest, tree_of
from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from tests.reading.bench import bench
from vbnfs.cache.cache_disk import CacheDisk
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.holdings import Holdings
from vbnfs.cache.verdicts import Verdicts
from vbnfs.cli.render import escape
from vbnfs.config.mount_options import parse_mount_options
from vbnfs.daemon import control
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.stored_files import append_stored_line, read_stored, read_stored_lines
from vbnfs.errors import HashMismatchError, UsageError
from vbnfs.filesystem.attributes import Attributes
from vbnfs.filesystem.open_files import KernelPages
from vbnfs.filesystem.operations import FileSystem
from vbnfs.filesystem.passthrough import Passthrough
from vbnfs.fuse.device import Device
from vbnfs.fuse.protocol import HEADER_BYTES, Opcode
from vbnfs.fuse.server import Server
from vbnfs.host.places import folder_at
from vbnfs.objects import Content, ObjectVersion
from vbnfs.reading.checked_files import CheckedFiles
from vbnfs.reading.deadlines import Deadlines
from vbnfs.reading.file_reader import FileReader

UNANSWERED = {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT}
SIZED = {Opcode.READ, Opcode.READDIRPLUS}
little = st.integers(0, 12)


async def own_file(uid: int, pid: int) -> str:
    """Where a thread of a user finds what AllenSDK writes."""
    return f"/nowhere/{uid}/{pid}"


@asynccontextmanager
async def file_system(directory: Path) -> AsyncIterator[FileSystem]:
    """A file system of one version with a file of 4 bytes."""
    client = MemoryClient(MemoryStore(BUCKET))
    version = manifest("1.0.0", {"folder/file": "data"})
    [file] = version.files
    client.store.put(file.version.key, b"data", version_id=file.version.version_id)
    async with bench(directory, client=client) as floor:
        catalog = Catalog(client, directory / "kept", origin=ORIGIN, project=PROJECT)
        await catalog.sizes.fetch_object(file.version)
        yield FileSystem(
            tree=tree_of([version], default="1.0.0"),
            catalog=catalog,
            attributes=Attributes(
                catalog,
                floor.cache,
                written=floor.source.writer.written,
                url=str,
                verified=lambda content: "no",
            ),
            open_reader=lambda content, advises: FileReader(
                content, floor.cache, floor.source, floor.prefetcher, floor.verdicts, advises=advises
            ),
            passthrough=Passthrough(
                CheckedFiles(floor.cache, floor.verdicts, floor.metrics),
                Holdings(folder_at(directory)),
                floor.metrics,
                reason="not wanted",
            ),
            own_file=own_file,
            disk=CacheDisk(floor.cache, Evictor(directory, limit_bytes=1 << 30, metrics=floor.metrics)),
            metrics=floor.metrics,
            io_timeout_seconds=5.0,
            deadlines=Deadlines(),
            pages=KernelPages(),
        )


def words(*numbers: int) -> bytes:
    """Numbers of 64 bits, as most bodies have them."""
    return b"".join(number.to_bytes(8, "little") for number in numbers)


bodies = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([b"folder\0", b"file\0", b"..\0", b"README.txt\0", b"\0", b""]),
    st.builds(lambda a, b, c: words(a, b, c, 0, 0), little, st.integers(0, 1 << 63), st.integers(0, 1 << 21)),
    st.builds(lambda size, name: words(size) + name + b"\0", st.integers(0, 300), st.binary(max_size=20)),
)
requests = st.tuples(
    st.sampled_from([*(o for o in Opcode if o != Opcode.INIT), 25, 60, 4096]),
    st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1)),
    bodies,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(requests, max_size=30))
def test_every_request_is_answered_once(asked: list[tuple[int, int, bytes]]) -> None:
    """Whatever a request asks for, and however its body is cut, one reply of sound length comes, and the next too."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory() as name:
        trio.run(_ask_all, Path(name), asked)


async def _ask_all(directory: Path, asked: list[tuple[int, int, bytes]]) -> None:
    # A socket that keeps messages apart, as /dev/fuse does; the kernel's end is the test's.
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel:
        kernel.settimeout(10)
        async with file_system(directory) as answers, trio.open_nursery() as nursery:
            nursery.start_soon(Server(Device(ours.detach()), answers).serve)
            # The last one is good: it is answered as if nothing had been.
            for unique, (opcode, inode, body) in enumerate([*asked, (Opcode.STATFS, 1, b"")], 1):
                length = (HEADER_BYTES + len(body)).to_bytes(4, "little")
                head = length + int(opcode).to_bytes(4, "little") + words(unique, inode) + bytes(16)
                kernel.send(head + body)
                if opcode not in UNANSWERED:
                    reply = await trio.to_thread.run_sync(kernel.recv, 1 << 20)
                    check(reply, unique, opcode, body)
            assert len(reply) == 16 + 80
            nursery.cancel_scope.cancel()


def check(reply: bytes, unique: int, opcode: int, body: bytes) -> None:
    """A reply's header (struct fuse_out_header), and that no more comes than was asked for."""
    assert int.from_bytes(reply[:4], "little") == len(reply)
    assert int.from_bytes(reply[8:16], "little") == unique
    number = -int.from_bytes(reply[4:8], "little", signed=True)
    assert number == 0 or (number in errno.errorcode and len(reply) == 16)
    if opcode in SIZED and number == 0:
        assert len(reply) - 16 <= int.from_bytes(body[16:20], "little")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["command", "x"]), inner, max_size=2),
)


@given(st.one_of(st.binary(max_size=100), values.map(lambda value: json.dumps(value).encode())))
def test_every_question_is_answered(line: bytes) -> None:
    """Whatever is sent to the control socket, the answer says that it will not do."""

    async def hello() -> Mapping[str, Any]:
        return {}

    answer = trio.run(control._reply, line, {"hello": hello})
    assert answer == {"ok": False, "error": "commands are: hello"}


@given(st.text())
def test_nothing_drives_a_terminal(text: str) -> None:
    """Of any text only printable characters reach the terminal; what was printable stays."""
    shown = escape(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@given(st.binary(max_size=200), st.integers(0, 300))
def test_a_kept_file_is_whole_or_absent(junk: bytes, cut: int) -> None:
    """Bytes that nobody stored are no kept file and no kept line; lines around them are still there."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "lines"
        append_stored_line(path, b"before")
        with path.open("ab") as file:
            file.write(junk)
        append_stored_line(path, b"after")
        assert list(read_stored_lines(path)) == [b"before", b"after"]
        os.truncate(path, min(cut, path.stat().st_size))
        assert set(read_stored_lines(path)) <= {b"before", b"after"}
        assert read_stored(path) is None


verdict_fields = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("found_hash", "fingerprint", "judged", "mismatches"), values)
)


@given(st.one_of(st.binary(max_size=100), verdict_fields.map(lambda fields: json.dumps(fields).encode())))
def test_a_kept_verdict_is_sound_or_refuses(junk: bytes) -> None:
    """Bytes that nobody stored as a verdict are none in favour of a file; in place of one against it they refuse."""
    content = Content("ab12", 1, ObjectVersion("key", "version"), "0" * 128)
    with tempfile.TemporaryDirectory() as name:
        for place in ("bad", "good/ab"):
            folder = Path(name, "verified-v1", "test", place)
            folder.mkdir(parents=True)
            (folder / content.content_id).write_bytes(junk)
        verdicts = Verdicts(Path(name), scope="test")
        verdicts.refresh()
        assert verdicts.good(content) is None
        with pytest.raises(HashMismatchError):
            verdicts.refuse(content)


@given(st.lists(st.text(max_size=30), max_size=3))
def test_mount_options_are_taken_or_refused(texts: list[str]) -> None:
    """Any text after -o becomes settings and options that are known, or is refused as wrong usage."""
    with suppress(UsageError):
        _, passed = parse_mount_options(tuple(texts))
        assert set(passed) <= {option for text in texts for option in text.split(",")}
