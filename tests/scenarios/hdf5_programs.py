"""What programs do with NWB files, each in a process of its own that need not import its libraries.

As a program it forks one for each line of its input, `NAME PATH`, and answers with its exit status.
"""

import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import h5py
import pynwb

LFP_SAMPLES: Final = 12_500  # ten seconds


def list_names(path: str) -> None:
    """All names, as h5py visits them."""
    h5py.File(path).visititems(lambda name, item: None)


def open_with_pynwb(path: str) -> None:
    """All that pynwb reads to open a file."""
    with pynwb.NWBHDF5IO(path, "r") as io:
        assert io.read().identifier


def read_one_unit(path: str) -> None:
    """The spike times of one unit."""
    units = h5py.File(path)["units"]
    index = units["spike_times_index"]
    assert len(units["spike_times"][index[99] : index[100]])


def read_one_channel(path: str) -> None:
    """Ten seconds of one channel: one value of each row."""
    probe = next(iter(h5py.File(path)["acquisition"].values()))
    series = next(item for item in probe.values() if "data" in item)
    assert len(series["data"][:LFP_SAMPLES, 5]) == LFP_SAMPLES


WORKS: Final[Mapping[str, Callable[[str], None]]] = {
    function.__name__: function for function in (list_names, open_with_pynwb, read_one_unit, read_one_channel)
}


class Programs:
    """Runs them, one after the other."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.communicate()

    def run(self, work: Callable[[str], None], path: Path) -> None:
        """Have one run to its end."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{work.__name__} {path}\n")
        self._server.stdin.flush()
        assert self._server.stdout.readline() == "0\n"


def main() -> None:
    """Fork for each line."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        name, path = line.rstrip("\n").split(" ", 1)
        child = os.fork()
        if child == 0:
            try:
                WORKS[name](path)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
