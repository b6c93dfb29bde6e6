"""Cyclic garbage in a process that uses the synchronous door."""

import subprocess
import sys

import pytest

# Each call leaves 20 objects that refer to themselves, and has the event loop make some of its own.
LEAVING_GARBAGE = """
import gc, weakref
import trio
from vbnfs.access import door

class Cycle:
    def __init__(self):
        self.itself, self.lists = self, [[] for _ in range(5)]

alive = set()

def gone(reference):
    alive.discard(reference)

async def work():
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(trio.lowlevel.checkpoint)
    return [object() for _ in range(10)]

frozen = ["the program's own"]
gc.freeze()
for _ in range(3000):
    alive.update(weakref.ref(Cycle(), gone) for _ in range(20))
    door.run(work)
print(len(alive), any(one is frozen for one in gc.get_objects()))
"""

# What another callback sees while a collection of all is under way in the event loop's thread, and behind it.
OF_ALL = """
import gc, threading, weakref
import trio
from vbnfs.access import door

class Noted:
    pass

async def collect():
    gc.collect()

def look(phase, info):
    if threading.current_thread().name == "vbnfs" and info["generation"] == 2:
        seen.append((phase, gc.get_freeze_count() > 100_000, info["collected"]))

many, seen, gone = [[] for _ in range(100_000)], [], threading.Event()
noted = Noted()
noted.itself = noted
reference = weakref.ref(noted, lambda _: gone.set())
del noted
gc.disable()
door.run(trio.lowlevel.checkpoint)
gc.callbacks.append(look)
door.run(collect)
print(seen == [("start", True, 0), ("stop", False, 0)], gone.wait(60))
"""

# A child that is forked from a process with a door, in the midst of a collection, collects in its own thread what its
# loop left.
IN_A_CHILD = """
import gc, os, threading, warnings
import trio
from vbnfs.access import door

class Noted:
    def __del__(self):
        deleted.append(threading.current_thread().name)
        gone.set()
        forking.wait()

async def collect():
    gc.collect()

def leave_and_collect():
    global deleted, gone
    deleted, gone = [], threading.Event()
    noted = Noted()
    noted.itself = noted
    del noted
    door.run(collect)
    assert gone.wait(60)
    return deleted

warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 and later: it has threads
gc.disable()
forking = threading.Event()
os.register_at_fork(before=forking.set)  # vbnfs is asked after this, for it came before
assert leave_and_collect() == ["vbnfs-garbage"]
child = os.fork()
if child == 0:
    os._exit(0 if leave_and_collect() == ["vbnfs-garbage"] else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

# What is opened first here has the others, and closes them.
IN_ITS_ORDER = """
import gc, threading
from vbnfs.access import door

class Noted:
    def __init__(self, number):
        self.number, self.itself = number, self

    def __del__(self):
        deleted.append(self.number)
        if len(deleted) == 5:
            gone.set()

async def collect():
    gc.collect()

gc.disable()
deleted, gone = [], threading.Event()
first = Noted(0)
first.others = [Noted(number) for number in range(1, 5)]
del first
door.run(collect)
assert gone.wait(60)
print(*deleted)
"""

# Python makes a tuple of unknown length larger and larger while it is filled; a collection may come in between.
IN_THE_MIDST = """
import gc
import trio
from vbnfs.access import door

def numbers():
    for number in range(1000):
        if number % 100 == 50:
            gc.collect()
        yield number

async def build():
    return tuple(numbers()) == tuple(range(1000))

print(door.run(build))
"""


def printed(program: str) -> list[str]:
    """What a program prints, which a process of its own runs."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("is_frozen", [True, False])
def test_garbage_of_many_calls(*, is_frozen: bool) -> None:
    """Garbage goes while a program calls; what the program froze itself stays so."""
    alive, is_found = printed(LEAVING_GARBAGE if is_frozen else LEAVING_GARBAGE.replace("gc.freeze()\n", "\n"))
    assert int(alive) < 20_000  # of 60,000
    assert is_found == str(not is_frozen)


def test_a_collection_of_all_costs_the_loop_nothing() -> None:
    """All objects are frozen while it lasts, so it goes through none; another thread collects them behind it."""
    assert printed(OF_ALL) == ["True", "True"]


def test_garbage_after_a_fork() -> None:
    """What the event loop's thread left, another one collects, also in a child that is forked meanwhile."""
    assert printed(IN_A_CHILD) == ["0"]


def test_garbage_goes_in_python_s_order() -> None:
    """An object is deleted before those that it made, as Python's own collections do: it may close them itself."""
    assert printed(IN_ITS_ORDER) == ["0", "1", "2", "3", "4"]


def test_a_collection_while_a_tuple_is_built() -> None:
    """What is just being built is built to its end where a collection comes in between."""
    assert printed(IN_THE_MIDST) == ["True"]
