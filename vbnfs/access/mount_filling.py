"""Asking a mount to bring contents into the cache that it uses: the asking end of daemon/filling.py.

It is a conversation on the mount's control socket, a line of JSON each. It lasts as long as the work, and the work
ends with it, however this process ends.

    {"command": "fill", "contents": [wanted]}       ->  {"ok": true, "came_bytes": n, "filled": [ids]}, now and then
                                                        {"ok": true, "is_over": true, "filled": [ids]} at the end

`wanted` is the id of a content; or, where a portion of it is wanted, its id and a hexadecimal number in which the bit
of each such block is set. A mount passes over what it does not know.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from vbnfs.access.mount_status import ask_status
from vbnfs.access.running_mounts import refusal_of, shows_dataset_of
from vbnfs.blocks import Portion
from vbnfs.config.settings import Config
from vbnfs.errors import MountError
from vbnfs.host import peers
from vbnfs.host.identity import our_uid
from vbnfs.host.mountinfo import MountEntry, list_mounts
from vbnfs.host.runtime import find_socket
from vbnfs.objects import Content

FILL: Final = "fill"
_BATCH_CHARACTERS: Final = 48 << 10  # of what is wanted: it fits into a question
_SILENCE_SECONDS: Final = 15.0  # a mount reports several times a second
_MAX_LINE_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 64 << 10


def mount_on(config: Config) -> MountEntry | None:
    """A mount of this user's that shows the same dataset from the same cache, and asks S3; None if there is none.

    A cache belongs to one user. So root asks no mount of another's, whose daemon may say anything, and take any time.
    """
    if config.offline:
        return None
    for entry in (one for one in list_mounts() if one.owner == our_uid()):
        try:
            status = ask_status(entry)
        except MountError:
            continue
        is_same = shows_dataset_of(status, config)
        if is_same and _is_same_folder(Path(status["cache_dir"]), config.cache_dir) and not status["is_offline"]:
            return entry
    return None


def _is_same_folder(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


async def fill_by(
    entry: MountEntry,
    portions: Sequence[Portion],
    on_came: Callable[[int], None],
    on_filled: Callable[[Content], None],
) -> None:
    """Have a mount bring portions. `on_filled` gets the contents of those that it has done with.

    They are brought, and judged where they are complete, or given up. Raises `MountError` where the mount does not
    answer, or goes away.
    """
    for batch in _batches(portions):
        question = {"command": FILL, "contents": list(map(as_wanted, batch))}
        left = {one.content.content_id: one.content for one in batch}
        async with _conversation(entry, question) as reports:
            async for report in reports:
                on_came(_count(report.get("came_bytes", 0)))
                for content_id in report.get("filled", ()):
                    if (content := left.pop(str(content_id), None)) is not None:
                        on_filled(content)


def as_wanted(portion: Portion) -> str | list[str]:
    """A portion as a question names it."""
    content_id = portion.content.content_id
    return content_id if portion.is_whole else [content_id, f"{sum(1 << one for one in portion.blocks):x}"]


def blocks_wanted(value: object) -> tuple[str, Sequence[int] | None]:
    """The content id in what `as_wanted` gave, and the blocks; None for all. Raises `ValueError` for what is none."""
    match value:
        case str():
            return value, None
        case [str(content_id), str(blocks)]:
            number = int(blocks, 16)
            return content_id, [one for one, bit in enumerate(reversed(f"{number:b}")) if bit == "1"]
    raise ValueError("neither a content nor a portion of one")


def _batches(portions: Sequence[Portion]) -> Iterator[list[Portion]]:
    """As many as fit into a question, one after the other."""
    batch, room = list[Portion](), _BATCH_CHARACTERS
    for portion in portions:
        need = len(json.dumps(as_wanted(portion)))
        if batch and need > room:
            yield batch
            batch, room = [], _BATCH_CHARACTERS
        batch.append(portion)
        room -= need + 2  # the comma and the space behind it
    if batch:
        yield batch


@asynccontextmanager
async def _conversation(
    entry: MountEntry, question: Mapping[str, Any]
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """What a mount reports on a question, up to the end. Raises `MountError`."""
    try:
        with trio.fail_after(_SILENCE_SECONDS):
            stream = await trio.open_unix_socket(str(find_socket(entry.owner, entry.device)))
        async with stream:
            if peers.peer_of(stream.socket).uid not in {entry.owner, 0}:
                raise MountError(f"{entry.mountpoint}: at its control socket somebody else answers")
            await stream.send_all(json.dumps(question).encode() + b"\n")
            yield _reports(entry, stream)
    except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise MountError(f"{entry.mountpoint}: its daemon does not answer: {error!r}") from error


async def _reports(entry: MountEntry, stream: trio.SocketStream) -> AsyncIterator[dict[str, Any]]:
    data = bytearray()
    while True:
        while b"\n" not in data and len(data) < _MAX_LINE_BYTES:
            with trio.fail_after(_SILENCE_SECONDS):
                piece = await stream.receive_some(_PIECE_BYTES)
            if not piece:
                raise MountError(f"{entry.mountpoint}: its daemon does not answer any more")
            data += piece
        line, _, data = data.partition(b"\n")
        report = json.loads(line)
        if isinstance(report, dict) and report.get("ok") is False:
            raise refusal_of(entry, FILL, report)
        if not isinstance(report, dict) or report.get("ok") is not True or not isinstance(report.get("filled"), list):
            raise MountError(f"{entry.mountpoint}: its daemon's answer is none")
        yield report
        if report.get("is_over") is True:
            return


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
