"""Names with accents where the locale knows none: a tree's names are UTF-8, and paths are bytes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts

NAME = "behavior_sessions/Größe-é-日本.nwb"
LOCALES = {
    "posix": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "utf-8": {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"},
}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with a file whose name is not ASCII."""
    with serve({"0.4.0": {NAME: b"the one", "behavior_sessions/b.nwb": b"other"}}) as server:
        yield server


def run(locale: str, *arguments: bytes | str | Path) -> tuple[int, bytes, bytes]:
    """Run the command line in a locale."""
    command = [os.fsencode(word) for word in (sys.executable, "-m", "vbnfs", *arguments)]
    done = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, "VBNFS_CACHE_DIR": "", **LOCALES[locale]}
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("locale", LOCALES)
def test_names_with_accents(server: FakeS3Server, mounts: Mounts, tmp_path: Path, locale: str) -> None:
    """They are listed, found, read and reported in any locale, on a folder and with a cache with accents, too."""
    folder, toml = tmp_path / "Ordner-ü", tmp_path / "x.toml"
    folder.mkdir()
    text = f'endpoint_url = "{server.endpoint_url}"\ncache_dir = "{tmp_path}/Lager-ß"\nmountpoint = "{folder}"\n'
    toml.write_text(text, encoding="utf-8")
    mounts.made.append(mount := Mount(folder, []))
    status, out, err = run(locale, "mount", "--config", toml)
    assert (status, out, err) == (0, f"mounted 0.4.0 at {folder}\n".encode(), b"")
    top = os.fsencode(mount.path)
    name = NAME.encode()
    assert set(os.listdir(top + b"/behavior_sessions")) == {name.partition(b"/")[2], b"b.nwb"}
    assert Path(os.fsdecode(top + b"/" + name)).read_bytes() == b"the one"
    assert os.getxattr(top + b"/" + name, "user.vbnfs.version_id")
    with pytest.raises(FileNotFoundError):
        os.stat(top + b"/behavior_sessions/\xff\xfe")
    assert (tmp_path / "Lager-ß").is_dir()
    assert run(locale, "status", folder)[::2] == (0, b"")
    status, out, err = run(locale, "verify", top + b"/" + name)
    assert (status, err) == (0, b"1 of 1 files good, 7 B\n"), (out, err)
    status, out, err = run(locale, "urls", "--config", toml)
    assert (status, err, out.count(b"\n")) == (0, b"", 2), err
    status, out, err = run(locale, "mount", "--config", toml)
    assert (status, err.count(b"\n"), b"already a vbnfs mount" in err) == (1, 2, True)  # and where that is explained
    assert run(locale, "umount", folder) == (0, b"", b"")
