"""The table of settings, and what their texts mean."""

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.examples import BAD, EXAMPLES, plain, toml
from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS, Config, Setting, parse_size
from vbnfs.config.sources import load_config
from vbnfs.errors import UsageError


def test_every_setting_has_examples() -> None:
    """The examples here are complete: a new setting is tested, or this fails."""
    assert list(EXAMPLES) == list(BAD) == list(SETTING_BY_NAME)


def test_settings_and_fields_belong_together() -> None:
    """Each setting fills one field of the configuration; the others are mount(8)'s, and the kernel's."""
    others = ["source", "fuse_options", "most_answer_seconds"]
    assert [field.name for field in fields(Config)] == [*(setting.field for setting in SETTINGS), *others]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_names_follow_from_one(setting: Setting) -> None:
    """The option, the variable and the mount option are the TOML key in another form; each has a sentence of help."""
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z]+)*", setting.name)
    assert setting.option.removeprefix("--").replace("-", "_") == setting.name
    assert setting.variable.removeprefix("VBNFS_").lower() == setting.name
    assert setting.help
    assert setting.is_flag == (setting.metavar == "")


def test_defaults() -> None:
    """Without any source every setting has its default, and the cache's size is for the cache to know."""
    config = plain()
    assert config == Config(
        dataset="visual-behavior-neuropixels",
        bucket="visual-behavior-neuropixels-data",
        project="visual-behavior-neuropixels",
        region="us-west-2",
        endpoint_url=None,
        ca_bundle=None,
        mirror=None,
        site_cache=(),
        dataset_version=None,
        versions=("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"),
        cache_dir=config.cache_dir,
        cache_size_bytes=None,
        cache_reserve_bytes=None,
        cache_also=(),
        trusted_users=(),
        memory_limit_bytes=256 << 20,
        verify="first-use",
        max_connections=32,
        limit_rate_bytes=None,
        receivers=0,
        io_timeout_seconds=30.0,
        silence_timeout_seconds=15.0,
        refresh_seconds=300.0,
        offline=False,
        passthrough=True,
        record=None,
        trust_cache=False,
        hdf5=True,
        index=None,
        fuse_engine="native",
        status_folder="hidden",
        metrics_address=None,
        metrics_file=None,
        allow_other=False,
        allow_root=False,
        uid=None,
        gid=None,
        umask=None,
        fmask=None,
        dmask=None,
        auto_unmount=False,
        foreground=False,
        log_file=config.log_file,
        log_level="info",
        mountpoint=None,
    )
    assert config.cache_dir.name == "vbnfs"
    assert config.log_file.name == "vbnfs.log"


@pytest.mark.parametrize(("silence", "io", "seconds"), [("15", "30", 15), ("15", "5", 5), ("60", "30", 30)])
def test_silence_is_never_allowed_more_than_a_read(silence: str, io: str, seconds: float) -> None:
    """The time for a read of which no byte comes is at most that for any read."""
    texts = {"silence_timeout": silence, "io_timeout": io}
    assert load_config(command_line=texts, environ={}).silence_seconds == seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("200G", 200 << 30),
        ("1.5TiB", 3 << 39),
        ("64 MB", 64 << 20),
        ("64mib", 64 << 20),
        (" 1M ", 1 << 20),
        ("1024K", 1 << 20),
        ("1048576", 1 << 20),
        ("1048576B", 1 << 20),
        ("1048576.9", 1 << 20),
        ("0.001T", 1_099_511_627),
        ("8191P", 8191 << 50),
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    """Units are powers of 1024, with or without B and iB, in capitals or not; part of a byte is left out."""
    assert parse_size(text) == size_bytes


@given(st.integers(1 << 20, (1 << 63) - 1), st.sampled_from(["", "B", " b"]))
def test_every_number_of_bytes_is_exact(size_bytes: int, unit: str) -> None:
    """Any number of bytes that can be a size is read exactly."""
    assert parse_size(f"{size_bytes}{unit}") == size_bytes


@given(
    st.integers(1, 8191), st.sampled_from("MGTP"), st.sampled_from(["", "B", "iB"]), st.sampled_from(["", " ", "  "])
)
def test_every_unit_is_exact(number: int, unit: str, suffix: str, blank: str) -> None:
    """A whole number of any unit is that number times the unit."""
    assert parse_size(f"{number}{blank}{unit}{suffix}") == number << {"M": 20, "G": 30, "T": 40, "P": 50}[unit]


@given(st.integers(1, 8000), st.integers(0, 999), st.sampled_from("GTP"))
def test_every_decimal_part_is_exact(number: int, thousandths: int, unit: str) -> None:
    """Three decimals of a unit are exact, rounded down to a byte."""
    power = {"G": 30, "T": 40, "P": 50}[unit]
    assert parse_size(f"{number}.{thousandths:03}{unit}") == ((number * 1000 + thousandths) << power) // 1000


@given(st.text() | st.from_regex(r"[0-9]{1,400}(\.[0-9]{1,40})?\s?[kKmMgGtTpP]?i?[bB]?", fullmatch=True))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    """Whatever the text: it is a size within the limits, or a `ValueError`."""
    try:
        size_bytes = parse_size(text)
    except ValueError:
        return
    assert 1 << 20 <= size_bytes < 1 << 63


@pytest.mark.parametrize(
    ("texts", "value"),
    [(("1", "true", "YES", "On", " on "), True), (("0", "False", "no", "OFF"), False)],
)
def test_booleans(texts: Iterable[str], value: bool) -> None:
    """Eight words, in capitals or not, are yes or no."""
    assert [plain(allow_other=text).allow_other for text in texts] == [value for _ in texts]


def test_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~` is the home folder, a relative path starts at the current one; `..` is taken out, links stay."""
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/elsewhere")
    for text, path in {
        "~": "/home/user",
        "~/cache": "/home/user/cache",
        "/a/../b//c/": "/b/c",
        "relative": str(tmp_path / "relative"),
        "link/x": str(tmp_path / "link" / "x"),
        "a~b": str(tmp_path / "a~b"),
    }.items():
        assert plain(cache_dir=text).cache_dir == Path(path)


def test_a_current_folder_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path from a folder that was deleted is refused; an absolute one does not mind."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="--cache-dir: 'relative' will not do"):
        plain(cache_dir="relative")
    assert plain(cache_dir="/absolute").cache_dir == Path("/absolute")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8333", "http://localhost:8333"),
        ("http://localhost:8333/", "http://localhost:8333"),
        ("https://proxy.example/s3//", "https://proxy.example/s3"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[2001:db8::1]:9000/", "http://[2001:db8::1]:9000"),
    ],
)
def test_endpoints(text: str, url: str) -> None:
    """An endpoint is a host with or without port and path, IPv6 in brackets; a slash at the end is left out."""
    assert plain(endpoint_url=text).endpoint_url == url


def test_several_values(tmp_path: Path) -> None:
    """In the TOML file they are a list, or a text as elsewhere; a list of anything but texts is refused."""
    for text in ('["/a", "/b c"]', '"/a:/b c"'):
        config = load_config(command_line={}, environ={}, config_file=toml(tmp_path, f"cache_also = {text}"))
        assert config.cache_also == (Path("/a"), Path("/b c"))
    assert load_config(command_line={}, config_file=toml(tmp_path, "cache_also = []"), environ={}).cache_also == ()
    for text in ("[1]", '["/a:/b"]', '[["/a"]]'):
        with pytest.raises(UsageError, match=r"cache_also in .* is wanted"):
            load_config(command_line={}, environ={}, config_file=toml(tmp_path, f"cache_also = {text}"))
