"""Sixteen processes that start as AllenSDK does: `starts.py FILE STARTS NEWEST VERSION...`; needs no AllenSDK.

At each start it reads in FILE which manifest was loaded last, takes the NEWEST where nothing stands there, and writes
which one it loads. For each VERSION a process loads that one, and then all start, each so many times. Then each
starts as often, and loads one of the two last VERSIONs at random. It prints a line for each part: what was found.
"""

import multiprocessing
import random
import sys


def started(file: str, newest: str, load: str | None = None) -> str:
    """Start once, and load another version then, if one is given. Returns which version was found."""
    try:
        with open(file) as reader:
            found = reader.read()
    except FileNotFoundError:
        found = ""
    for version in (found or newest, load):
        if version is not None:
            with open(file, "w") as writer:
                writer.write(version)
    return found


def start_again(work: tuple[str, int, str, tuple[str, ...], int]) -> set[str]:
    """What one process finds that starts so many times."""
    file, starts, newest, choice, seed = work
    chance = random.Random(seed)
    return {started(file, newest, chance.choice(choice) if choice else None) for _ in range(starts)}


def main() -> None:
    file, starts, newest, *versions = sys.argv[1:]
    with multiprocessing.get_context("fork").Pool(16) as pool:

        def all_find(*choice: str) -> str:
            work = [(file, int(starts), newest, choice, seed) for seed in range(16)]
            return " ".join(sorted(set().union(*pool.map(start_again, work, chunksize=1))))

        for version in versions:
            started(file, newest, version)
            print(all_find())
        print(all_find(*versions[-2:]))


if __name__ == "__main__":
    main()
