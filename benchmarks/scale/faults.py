"""A course whose site cache is damaged, and then killed, while all clients read through it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.scale import logs
from benchmarks.scale.clients import Answer, Client
from benchmarks.scale.courses import Key, key_of, read_all
from benchmarks.scale.gates import Gate
from benchmarks.scale.lab import Lab, wait_for
from benchmarks.scale.servers import SLICE_BYTES
from benchmarks.speed.files import PROJECT
from vbnfs.blocks import BLOCK_BYTES

_SAID: Final = "a block came wrong"
_HEAD: Final = b"\nKEY: "  # in the head of a file of nginx's cache


@dataclass(frozen=True, slots=True)
class Faults:
    """The site cache damaged and killed: how many clients read wrong or not at all, and what was said of it.

    `clients` are all of them. One has read all right before the site cache was damaged.
    """

    clients: int
    damaged_wrong: int
    damaged_said_by: int
    damaged_logged_by: int
    wrong_blocks: int
    killed_wrong: int
    killed_failed_answers: int
    killed_to_s3: int
    after_wrong: int
    came_back: int

    @property
    def gates(self) -> list[Gate]:
        """No wrong byte, no failed read; and each client says so, and asks the site cache again."""
        return [
            Gate("damaged: clients with a wrong or failed read", self.damaged_wrong, 0),
            Gate("damaged: clients that do not count it", self.clients - 1 - self.damaged_said_by, 0),
            Gate("damaged: clients that do not log it", self.clients - 1 - self.damaged_logged_by, 0),
            Gate("killed: clients with a wrong or failed read", self.killed_wrong, 0),
            Gate("killed: answers with an error", self.killed_failed_answers, 0),
            Gate("back: clients with a wrong or failed read", self.after_wrong, 0),
            Gate("back: clients that do not ask it", self.clients - self.came_back, 0),
        ]


def faults(lab: Lab, clients: Sequence[Client], expected: Mapping[Key, str]) -> Faults:
    """Have the site cache wrong, and then killed, while they read; what became of it, and what they say of it."""
    course = lab.course
    right = expected[key_of(course.damaged)]
    warming, *others = clients
    first = warming.read(course.damaged)
    lab.since()
    damage(lab.proxy.directory / "kept", [name for pair in course.damaged for name in pair])
    damaged = [first, *read_all(others, lambda _: course.damaged, lambda: None)]
    counts = [client.status()["metrics"]["wrong_blocks"] for client in others]
    logged = [_SAID in client.log.read_text() for client in others]
    before = [client.status()["metrics"]["failed_answers"] for client in clients]
    lab.since()
    killed = read_all(clients, lambda _: course.killed, lambda: _kill_and_start(lab))
    to_s3 = [each for each in lab.since().s3 if each.client != lab.proxy.host.address]
    for client in clients:
        wait_for(lambda client=client: client.asks_proxy, "clients would ask the site cache again")
    lab.since()
    back = read_all(clients, lambda _: course.after, lambda: None)
    asking = {each.client for each in lab.since().proxy}
    after = [client.status()["metrics"]["failed_answers"] for client in clients]
    return Faults(
        clients=len(clients),
        damaged_wrong=_wrong(damaged, right),
        damaged_said_by=sum(count > 0 for count in counts),
        damaged_logged_by=sum(logged),
        wrong_blocks=sum(counts),
        killed_wrong=_wrong(killed, expected[key_of(course.killed)]),
        killed_failed_answers=sum(after) - sum(before),
        killed_to_s3=len(to_s3),
        after_wrong=_wrong(back, expected[key_of(course.after)]),
        came_back=sum(client.host.address in asking for client in clients),
    )


def _wrong(answers: Iterable[Answer], right: str) -> int:
    return sum(answer.error is not None or answer.digest != right for answer in answers)


def _kill_and_start(lab: Lab) -> None:
    """Kill the site cache while it is asked; start it again, as its unit does, once S3 was asked in its place."""
    known, address, before = len(lab.proxy.lines()), lab.proxy.host.address, len(lab.origin.lines())
    wait_for(lambda: len(lab.proxy.lines()) > known, "clients ask the site cache")
    lab.proxy.kill()
    wait_for(lambda: any(each.client != address for each in logs.answers(lab.origin.lines()[before:])), "S3 is asked")
    lab.proxy.start()


def damage(kept: Path, names: Sequence[str]) -> int:
    """Change a byte of each block of one slice of each of these files; how many slices were changed."""
    left = {f"/{PROJECT}/{name}?" for name in names}
    for path in sorted(kept.glob("slices/*/*/*")):
        data = bytearray(path.read_bytes())
        place = data.find(_HEAD)
        key = bytes(data[place : data.find(b"\n", place + 1)]).decode()
        mine = next((name for name in left if name in key), None)
        if mine is not None and len(data) > SLICE_BYTES:  # a whole slice, with its head before it
            for block_end in range(len(data), len(data) - SLICE_BYTES, -BLOCK_BYTES):
                data[block_end - 1000] ^= 1
            path.write_bytes(data)
            left.discard(mine)
    return len(names) - len(left)
