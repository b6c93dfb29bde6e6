"""A program: an extended attribute of each file at and below some paths: `apart_program.py ATTRIBUTE PATH...`.

Run as a script, by path: `python -I -S apart_program.py`. It writes a line of JSON for each file, as `Found` in
apart.py has it. A path may be a link; links below a folder are left out. It ends at a path or folder that cannot be
read.
"""

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    """Write what there is."""
    attribute, *paths = sys.argv[1:]
    for number, path in enumerate(paths):
        try:
            for file in files(path):
                write(number=number, path=file, **found(file, attribute))
        except OSError as error:
            write(number=number, path=error.filename, errno=error.errno, is_end=True)
            return


def files(path: str) -> Iterator[str]:
    """The file at a path, or those below it. Raises `OSError`."""
    if not stat.S_ISDIR(os.stat(path).st_mode):
        yield path
        return
    for folder, _, names in os.walk(path, onerror=refuse):
        yield from (str(file) for name in sorted(names) if not (file := Path(folder, name)).is_symlink())


def refuse(error: OSError) -> None:
    """A folder that cannot be read ends it."""
    raise error


def found(file: str, attribute: str) -> dict[str, Any]:
    """What there is of one file."""
    status = dict[str, Any]()
    try:
        one = os.stat(file)
        status = {"inode": one.st_ino, "size_bytes": one.st_size}
        return {**status, "value": os.getxattr(file, attribute).decode(errors="replace")}
    except OSError as error:
        return {**status, "errno": error.errno}


def write(**fields: Any) -> None:
    """A line."""
    os.write(1, json.dumps(fields).encode() + b"\n")  # all of it: a pipe, and no signals


if __name__ == "__main__":
    main()
