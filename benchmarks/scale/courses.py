"""What clients of a course read, in which order, and what they have to find."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.scale.clients import Answer, Client, Pairs, Reader
from benchmarks.scale.files import Course

Key = tuple[tuple[str, ...], ...]


def turned(pairs: Pairs, number: int) -> Pairs:
    """The same in another order: each client begins with the session after the one before it (pure)."""
    place = number % len(pairs)
    return [*pairs[place:], *pairs[:place]]


def key_of(pairs: Pairs) -> Key:
    """By which the digest of what is read is found (pure)."""
    return tuple(map(tuple, pairs))


def expected_digests(course: Course) -> dict[Key, str]:
    """The digests of what programs read, by what they read: from the files themselves."""
    reader = Reader()
    reader.wait_until_ready()
    wanted = [turned(course.together, number) for number in range(len(course.together))]
    found = {}
    for pairs in [*wanted, course.damaged, course.killed, course.after]:
        reader.begin(course.files.directory, pairs)
        found[key_of(pairs)] = reader.answer().digest
    reader.end()
    return found


def read_all(clients: Sequence[Client], pairs: Callable[[int], Pairs], meanwhile: Callable[[], None]) -> list[Answer]:
    """Have all read at the same time, each its own, and do something meanwhile."""
    for number, client in enumerate(clients):
        client.reader.begin(client.top, pairs(number))
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(meanwhile)
        answers = [client.reader.answer() for client in clients]
        doing.result()
    return answers
