"""`vbnfs limit-rate`: the rate of a cache, set and shown."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vbnfs.cache.shared_rate import read_rate
from vbnfs.cli.main import cli
from vbnfs.cli.troubleshooting import section_of
from vbnfs.errors import CacheError, MountError, UsageError
from vbnfs.rate import OFF

MIB = 1 << 20


def limit_rate(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["limit-rate", *map(str, words)], prog_name="vbnfs")


def test_set_and_shown(tmp_path: Path) -> None:
    """A rate is stored for a cache that is not there yet, too, and shown; `off` is one; showing makes no folder."""
    cache = tmp_path / "cache"
    assert limit_rate().output == f"{cache}  off\n"
    assert not cache.exists()
    assert limit_rate("5M").output == limit_rate().output == f"{cache}  5.0 MiB/s\n"
    assert read_rate(cache).rate == 5 * MIB
    assert limit_rate("off").output == limit_rate().output == f"{cache}  off\n"
    assert read_rate(cache).rate == OFF
    other = tmp_path / "other"
    assert limit_rate("500K", "--cache-dir", other).output == f"{other}  500 KiB/s\n"
    assert read_rate(cache).rate == OFF


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("fast",),
            "fast: neither a folder nor a rate; a rate in bytes a second",
        ),
        (("5M", "6M"), "one rate and one folder at the most"),
        (("5M", "/a", "/b"), "one rate and one folder at the most"),
        (("5M", "10Mbit"), "10Mbit: neither a folder nor a rate"),
        (("10Mbit",), "bytes a second"),
    ],
)
def test_what_is_no_rate(words: tuple[str, ...], message: str) -> None:
    """A wrong rate, too many words: wrong usage, and the message says what is wanted."""
    error = limit_rate(*words).exception
    assert isinstance(error, UsageError)
    assert message in str(error)


@pytest.mark.parametrize("words", [("5M", "{}"), ("{}", "5M"), ("{}",), ("5M", "{}/none"), ("5M", "/")])
def test_a_folder_without_a_mount(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Where nothing is mounted, that is said, with status 1: the same words may do when it is mounted."""
    folder = next(word.format(tmp_path) for word in words if "/" in word.format(tmp_path))
    error = limit_rate(*(word.format(tmp_path) for word in words)).exception
    assert isinstance(error, MountError)
    assert str(error) == f"{folder}: no vbnfs mount; 'vbnfs status' lists those that there are"
    assert section_of(error) == "nothing-is-mounted-there"


def test_a_cache_that_cannot_be_used(tmp_path: Path) -> None:
    """A folder that others can write is refused, as by a mount: no rate of it is set, or shown."""
    (tmp_path / "cache").mkdir(mode=0o777)
    (tmp_path / "cache").chmod(0o777)
    assert isinstance(limit_rate("5M").exception, CacheError)
    assert isinstance(limit_rate().exception, CacheError)
