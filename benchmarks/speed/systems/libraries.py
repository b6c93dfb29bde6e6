"""Python libraries that users have: each reads in programs of its own (`streams.py`). They keep nothing."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.speed.systems.base import READERS_PYTHON, ROOT, Site, System
from benchmarks.speed.systems.programs import end, output_of, wait_for_all

_STREAMS: Final = ROOT / "benchmarks" / "speed" / "streams.py"
_MAKE_LINDI: Final = """
import sys, lindi
path, url, made = sys.argv[1:]
lindi.LindiH5pyFile.from_hdf5_file(path, url=url).write_lindi_file(made)
"""


class Client(System):
    """A library that brings a file's bytes in order, by the system's name: boto3, awscrt or mountpoint-client."""

    @property
    def library(self) -> str:
        """What `streams.py` calls it."""
        return self.name

    _processor_seconds = 0.0

    def location(self, name: str) -> str:
        """An address."""
        return self.site.url(name)

    def read_whole(self, name: str) -> float:
        """The program's own seconds, without starting Python and without imports."""
        report = json.loads(output_of(self._command(name), self.environment))
        self._processor_seconds += report["processor_seconds"]
        return float(report["seconds"])

    def read_heads(self, names: Sequence[str], bytes_each: int) -> list[float]:
        """The programs begin to read when all have imported what they need."""
        with ExitStack() as stack:
            processes = []
            for name in names:
                process = subprocess.Popen(
                    self._command(name, "--bytes", str(bytes_each), "--wait"),
                    env=self.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                stack.callback(end, process)
                processes.append(process)
            for process in processes:
                assert process.stdout is not None
                process.stdout.readline()
            began = time.monotonic()
            for process in processes:
                assert process.stdin is not None
                process.stdin.close()
            seconds = wait_for_all([(process, began) for process in processes])
            for process in processes:
                assert process.stdout is not None
                self._processor_seconds += json.loads(process.stdout.read())["processor_seconds"]
            return seconds

    def digest(self, name: str) -> str | None:
        """Of what the library brings."""
        report = json.loads(output_of(self._command(name, "--digest"), self.environment))
        return str(report["digest"])

    def processor_seconds(self) -> float:
        """Of the programs, while they read."""
        return self._processor_seconds

    def _command(self, name: str, *options: str) -> list[str]:
        python = [str(self.python), "-W", "ignore", str(_STREAMS)]
        size = ["--bytes", str(self.site.files.size_bytes(name))] if "--bytes" not in options else []
        where = [self.library, self.site.url(name), "--connections", str(self.site.connections)]
        return [*python, *where, "--file", str(self.directory / "file"), *size, *options]


class Library(Client):
    """One that opens an address as a file object, which h5py takes, too: those of `addresses.py`."""

    def location(self, name: str) -> str:
        """The library, and an address."""
        return f"{self.library}:{self.site.url(name)}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What it keeps for the time of a program lies in the folder that is emptied."""
        return {**self.site.environment, "TMPDIR": str(self.directory)}


class PythonS3fs(Library):
    """s3fs of Python, with blocks as fsspec's; not s3fs-fuse. It lives in .venv-readers."""

    python = READERS_PYTHON


class VbnfsInPython(Library):
    """vbnfs without a mount, `vbnfs.Dataset` or `vbnfs://`, in the environment of this clone."""

    python = Path(sys.executable)

    def __init__(self, name: str, site: Site, directory: Path, library: str) -> None:
        super().__init__(name, site, directory)
        self._library = library

    @property
    def library(self) -> str:
        """What `addresses.py` calls it."""
        return self._library

    @property
    def environment(self) -> Mapping[str, str]:
        """With its settings."""
        settings = {
            "VBNFS_ENDPOINT_URL": self.site.listener.url,
            "VBNFS_CACHE_DIR": str(self.directory / "cache"),
            "VBNFS_MAX_CONNECTIONS": str(self.site.connections),
        }
        return {
            **super().environment,
            **settings,
            **({"VBNFS_CA_BUNDLE": str(self.site.ca)} if self.site.is_tls else {}),
        }


class H5coro(Library):
    """h5coro, which reads datasets by their names from an address. It lives in .venv-readers, for its botocore."""

    python = READERS_PYTHON

    def digest(self, name: str) -> None:
        """It has arrays, and no file's bytes."""


class Lindi(Library):
    """lindi, as it is meant to be used: with a .lindi.json, made of each file once, which lies on the local disk."""

    def location(self, name: str) -> str:
        """The .lindi.json of a file, which is made when it is first asked for, from the original itself."""
        made = self.directory.with_name(self.directory.name + "-json") / f"{Path(name).stem}.lindi.json"
        if not made.exists():
            made.parent.mkdir(exist_ok=True)
            output_of(
                [str(self.python), "-c", _MAKE_LINDI, str(self.site.files.path(name)), self.site.url(name), str(made)]
            )
        return f"lindi:{made}"

    def digest(self, name: str) -> None:
        """It has arrays, and no file's bytes."""


class AllenSdk(System):
    """AllenSDK downloads into a cache_dir: from_s3_cache. boto3 is pointed to the origin by the environment."""

    @property
    def environment(self) -> Mapping[str, str]:
        """With the endpoint (boto3's guide, "Configuration", "Using environment variables")."""
        endpoint = {"AWS_ENDPOINT_URL_S3": self.site.listener.url, "AWS_DEFAULT_REGION": "us-west-2"}
        return {**self.site.environment, **endpoint, "AWS_EC2_METADATA_DISABLED": "true"}

    def location(self, name: str) -> str:
        """The cache_dir."""
        return f"s3:{self.directory}"

    def read_whole(self, name: str) -> float:
        """It reads no single file."""
        raise NotImplementedError

    def read_heads(self, names: Sequence[str], bytes_each: int) -> list[float]:
        """It reads no single file."""
        raise NotImplementedError

    def digest(self, name: str) -> None:
        """AllenSDK compares the hash of each file itself."""
