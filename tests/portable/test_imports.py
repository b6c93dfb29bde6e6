"""What `import vbnfs` reaches: no floor that has to do with mounts, and nothing that macOS or Windows lack."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.portable.typeshed import System, has_module, lacking
from tests.test_floors import MODULES, floor_of, words_of

SYSTEMS: tuple[System, ...] = ("darwin", "win32")
PORTABLE = {"config", "dataset", "s3", "cache", "hdf5", "reading", "tables", "access", "api"}
OF_MOUNTS = {"fuse", "filesystem", "daemon", "doctor", "demo", "cli"}
TAKEN_FROM = ("os", "socket", "select", "signal", "mmap", "errno", "time", "fcntl")
# Where there are no mounts, none is asked by its socket.
ASKS_MOUNTS = {"vbnfs.access.running_mounts": {"socket.AF_UNIX"}}
IN_A_FOLDER = {"dir_fd", "src_dir_fd", "dst_dir_fd"}
IMPORTING = """
import importlib, pkgutil, sys
from pathlib import Path
from tests.portable.systems import become
EXTRAS = {"allensdk", "fsspec", "upath"}  # of which not every environment has each
become(sys.argv[1], processes=Path(sys.argv[2]))
import vbnfs
vbnfs.Dataset, vbnfs.File, vbnfs.RemoteFile, vbnfs.Session, vbnfs.Version
print(*(name for name in sys.modules if name.startswith("vbnfs.")))
for folder in sys.argv[3:]:
    package = importlib.import_module(f"vbnfs.{folder}")
    for module in pkgutil.iter_modules(package.__path__, f"vbnfs.{folder}."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
print(*(name for name in sys.modules if name.startswith("vbnfs.")))
"""
MAPPING = """
import errno, sys
from pathlib import Path
from tests.portable.systems import become
become(sys.argv[1], processes=Path(sys.argv[2]))
from vbnfs.host.mapping import map_populated
path = Path(sys.argv[2]) / "file"
path.write_bytes(b"data")
with path.open("rb") as file:
    try:
        print(bytes(map_populated(file.fileno(), 0, 4)))
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


@pytest.mark.parametrize("system", SYSTEMS)
def test_files_are_mapped_by_linux_alone(system: System, tmp_path: Path) -> None:
    """Elsewhere a read of the cache copies; macOS has `madvise`, too, and none that has pages come."""
    command = [sys.executable, "-c", MAPPING, system, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout, done.stderr) == (0, "ENOSYS\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_it_is_imported_there(system: System, tmp_path: Path) -> None:
    """The names of the package, and each module of the floors that it stands on, import where Linux's own is gone."""
    command = [sys.executable, "-W", "ignore", "-c", IMPORTING, system, tmp_path, *PORTABLE]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2], timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    by_name, every = (set(line.split()) for line in done.stdout.splitlines())
    assert {floor_of(name) for name in every} & OF_MOUNTS == set()
    assert {"vbnfs.api.dataset", "vbnfs.access.dataset"} <= by_name <= every
    assert every >= {name for name in MODULES if floor_of(name) in PORTABLE - {"api"}}


def test_only_host_knows_systems() -> None:
    """What macOS or Windows lack, as typeshed has it, stands in host/ alone, and so do descriptors of folders."""
    theirs = {f"{name}.{each}" for system in SYSTEMS for name in TAKEN_FROM for each in lacking(name, system)}
    found = {name: words_of(tree) & theirs for name, tree in MODULES.items() if floor_of(name) in PORTABLE}
    assert {name: words for name, words in found.items() if words} == ASKS_MOUNTS
    keywords = {
        name: {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)} & IN_A_FOLDER
        for name, tree in MODULES.items()
        if floor_of(name) != "host"
    }
    assert {floor_of(name) for name, words in keywords.items() if words} <= {"cli", "filesystem"}


def test_what_typeshed_says() -> None:
    """What is well known of the three systems; so the stubs are read as they are meant."""
    assert {"pread", "fork", "geteuid", "O_NOFOLLOW", "SEEK_DATA"} <= lacking("os", "win32")
    assert {"posix_fallocate", "fdatasync", "eventfd", "memfd_create", "O_PATH"} <= lacking("os", "darwin")
    assert {"pread", "fork", "O_NOFOLLOW"}.isdisjoint(lacking("os", "darwin"))
    assert {"open", "replace", "fsync"}.isdisjoint(lacking("os", "win32"))
    assert "epoll" in lacking("select", "darwin")
    assert "AF_UNIX" in lacking("socket", "win32") - lacking("socket", "darwin")
    assert "st_blocks" in lacking("os", "win32", of_class="stat_result")
    of_windows = {name for name in ("fcntl", "grp", "msvcrt", "pwd", "resource", "os") if has_module(name, "win32")}
    assert of_windows == {"msvcrt", "os"}
    assert has_module("fcntl", "darwin")
