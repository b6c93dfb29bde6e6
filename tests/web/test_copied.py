"""Lines that are copied from the page: they work as they stand."""

import shlex
import subprocess
import sys
from html import unescape
from pathlib import Path
from re import findall

import pytest

from tests.api.release import SESSION
from tests.fakes.s3_server import FakeS3Server
from tests.web.conftest import Visit, visiting
from vbnfs.config.sources import load_settings
from vbnfs.web.copied import Lines


def lines(environ: dict[str, str] | None = None, config_file: Path | None = None, **given: str) -> Lines:
    """Of a page that was given this."""
    return Lines.of(load_settings(command_line=given, environ=environ or {}, config_file=config_file))


def test_what_is_as_ever_is_not_written() -> None:
    """Where nothing was given that says which dataset it is, lines are as short as in the documents."""
    assert lines(memory_limit="64M").python("latest") == "import vbnfs; vbnfs.Dataset().latest"
    assert lines().command("sessions") == "vbnfs sessions"


def test_what_was_given_to_the_page_alone_is_written() -> None:
    """Options and variables, with the dataset's name first; what is not plain is quoted, and paths are whole ones."""
    found = lines({"VBNFS_CACHE_DIR": "~/it's"}, endpoint_url="http://127.0.0.1:9", dataset="visual-behavior-ophys")
    where = repr(str(Path("~/it's").expanduser()))
    given = f"endpoint_url='http://127.0.0.1:9', cache_dir={where}"
    assert found.dataset == f"vbnfs.Dataset('visual-behavior-ophys', {given})"
    words = shlex.split(found.command("sessions"))
    assert words[-2:] == ["--cache-dir", str(Path("~/it's").expanduser())]


def test_a_settings_file_is_written_if_it_is_not_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written; the usual one is read by all programs of its user, so what stands in that is not."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    usual, other = tmp_path / "vbnfs" / "config.toml", tmp_path / "other.toml"
    usual.parent.mkdir()
    for file in (usual, other):
        file.write_text('endpoint_url = "http://127.0.0.1:9"\n')
    assert lines().dataset == "vbnfs.Dataset()"
    assert lines(config_file=other).dataset == f"vbnfs.Dataset(config_file={str(other)!r})"
    assert lines(config_file=other).command("top") == f"vbnfs top --config {other}"


def test_what_the_page_gives_works_in_another_program(server: FakeS3Server, tmp_path: Path) -> None:
    """Its lines of Python, and its command, find the same, and use the same cache, without the page's settings."""
    given = {"endpoint_url": server.endpoint_url, "cache_dir": str(tmp_path / "its own")}
    with visiting(server, given=given) as visit:
        query = {"version": "0.5.0", "query": "experience_level == 'Novel'"}
        of_version = copied(visit, "/")[0]
        command, found = copied(visit, "/sessions", **query)
        file = next(text for text in copied(visit, f"/file/v0.5.0/{SESSION}") if text.startswith("import"))
    assert output(f"{of_version.replace('; ', '; print(', 1)}.name)") == "0.5.0"
    assert output(f"{found.replace('; ', '; print(len(', 1)}))") == "1"
    assert output(f"{file.replace('; ', '; print(', 1)}.read_bytes()[1:4])") == "b'HDF'"
    assert (tmp_path / "its own" / "blocks-v2").is_dir()
    shown = subprocess.run(["sh", "-c", f"{sys.executable} -m {command}"], capture_output=True, text=True, check=True)
    assert "1044385384" in shown.stdout


def copied(visit: Visit, address: str, **query: str) -> list[str]:
    """What the buttons of a page copy."""
    return [unescape(text) for text in findall('data-copy="([^"]*)"', visit.browser.get(address, params=query).text)]


def output(code: str) -> str:
    """What a program of its own prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
