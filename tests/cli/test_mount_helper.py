"""What mount(8)'s words mean, and the statuses that it gets; the real mount(8) is in tests/scenarios/system."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_mount import without_address
from vbnfs.cli import mount_helper
from vbnfs.cli.mount_helper import Request, parse_arguments, run, settings_for
from vbnfs.errors import UsageError

PROJECT = "visual-behavior-neuropixels"
PLAIN = Request(PROJECT, Path("/mnt"), ())


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("", PLAIN),
        ("-o rw", PLAIN),
        ("-n -o rw -t fuse.vbnfs", PLAIN),
        ("-s -f -n -v -o ro,nodev", Request(PROJECT, Path("/mnt"), ("ro", "nodev"), is_fake=True, is_verbose=True)),
        ("-sfnv", Request(PROJECT, Path("/mnt"), (), is_fake=True, is_verbose=True)),
        ("-o ro -o cache_dir=/a", Request(PROJECT, Path("/mnt"), ("ro", "cache_dir=/a"))),
        ("-o rw,remount,noexec", Request(PROJECT, Path("/mnt"), ("noexec",), is_remount=True)),
        ("-o remount,user_id=0,relatime", Request(PROJECT, Path("/mnt"), ("relatime",), is_remount=True)),
        ("-o nonsense,ro", Request(PROJECT, Path("/mnt"), ("nonsense", "ro"))),
        ("-s -o nonsense,cache-size=1G,x-y", Request(PROJECT, Path("/mnt"), ("cache-size=1G", "x-y"))),
        ("-N /proc/1/ns/mnt", Request(PROJECT, Path("/mnt"), (), namespace="/proc/1/ns/mnt")),
        ("-o config=/a.toml,setuid=me", Request(PROJECT, Path("/mnt"), (), Path("/a.toml"), "me")),
    ],
)
def test_what_mount8_says(line: str, request_: Request) -> None:
    """Source and folder, then flags, alone or together; flags may also stand before them."""
    flags = line.split()
    assert parse_arguments([PROJECT, "/mnt", *flags]) == parse_arguments([*flags, PROJECT, "/mnt"]) == request_


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "usage: mount.vbnfs"),
        ([PROJECT], "usage: mount.vbnfs"),
        ([PROJECT, "/mnt", "more"], "usage: mount.vbnfs"),
        ([PROJECT, "/mnt", "-z"], "option -z not recognized; usage"),
        ([PROJECT, "/mnt", "-o"], "option -o requires argument; usage"),
        ([PROJECT, "/mnt", "-o", "config"], "-o config: a value is wanted, as in config=FILE"),
        ([PROJECT, "/mnt", "-o", "setuid="], "-o setuid: a value is wanted, as in setuid=USER"),
        ([PROJECT, "/mnt", "-s", "-o", "ro,drop_privileges"], "-o drop_privileges: that is mount.fuse3's"),
        (["a/b", "/mnt"], "'a/b' will not do as what to mount"),
        (["/", "/mnt"], "'/' will not do as what to mount"),
    ],
)
def test_words_that_mean_nothing(arguments: list[str], expected: str) -> None:
    """Words that mount(8) never uses, and sources that are no project, are refused."""
    with pytest.raises(UsageError) as refusal:
        parse_arguments(arguments)
    assert str(refusal.value).startswith(expected)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["-o", "-s", "-fn", "-N", PROJECT, "/mnt", "ro,x=y"])))
def test_any_words(arguments: list[str]) -> None:
    """Whatever the words: they are a request, or refused."""
    with suppress(UsageError):
        assert parse_arguments(arguments).source


def test_a_source_that_became_a_path() -> None:
    """mount(8) makes a path of a source that the current folder has: the project is its last part."""
    assert parse_arguments([f"/some/where/{PROJECT}", "/mnt"]) == PLAIN
    assert parse_arguments([f"/some/where/s3:{PROJECT}", "/mnt"]) == replace(PLAIN, source=f"s3:{PROJECT}")


def test_a_source_with_a_colon() -> None:
    """`s3:NAME` is the same as NAME, and what df and findmnt show."""
    config = settings_for(parse_arguments([f"s3:{PROJECT}", "/mnt"]))
    assert (config.dataset, config.project, config.source) == (PROJECT, PROJECT, f"s3:{PROJECT}")


def test_a_mount_that_is_handed_over() -> None:
    """mount.fuse3 hands over /dev/fd/N, also with `drop_privileges`, which it has done then."""
    for options in ("ro", "ro,drop_privileges"):
        request = parse_arguments([PROJECT, "/dev/fd/5", "-o", options])
        assert request == Request(PROJECT, Path("/dev/fd/5"), ("ro",))


def test_quoted_values() -> None:
    """Commas in double quotes do not divide: of SELinux's labels, of paths, and of what is this program's own."""
    request = parse_arguments([PROJECT, "/mnt", "-o", 'context="a:s0:c1,c2",config="/a,b.toml",cache_dir="/c,d"'])
    assert request == Request(PROJECT, Path("/mnt"), ('context="a:s0:c1,c2"', 'cache_dir="/c,d"'), Path("/a,b.toml"))
    config = settings_for(replace(request, config_file=None))
    assert (config.cache_dir, config.fuse_options) == (Path("/c,d"), ('context="a:s0:c1,c2"',))


def test_a_source_that_is_a_datasets_name(tmp_path: Path) -> None:
    """The source may be a dataset's name, of the file, too; `dataset=` wins over the source."""
    (tmp_path / "x.toml").write_text("[datasets.mirror]\nproject = 'p'\nendpoint_url = 'http://mirror'")
    for words in (["mirror", "/mnt", "-o", "ro"], ["none", "/mnt", "-o", "dataset=mirror"]):
        config = settings_for(parse_arguments([*words, "-o", f"config={tmp_path / 'x.toml'}"]))
        assert (config.dataset, config.project, config.bucket) == ("mirror", "p", "p-data")
        assert config.endpoint_url == "http://mirror"


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket is called after the project unless a setting names another; there is no foreground."""
    monkeypatch.setenv("VBNFS_FOREGROUND", "yes")
    request = parse_arguments(["some-project", "/mnt", "-o", "noexec,exec,cache-size=2G,user"])
    config = settings_for(request)
    assert (config.project, config.bucket) == ("some-project", "some-project-data")
    assert (config.foreground, config.fuse_options, config.cache_size_bytes) == (False, ("exec",), 2 << 30)
    (tmp_path / "x.toml").write_text("bucket = 'mirror'\nproject = 'another'")
    request = parse_arguments(["some-project", "/mnt", "-o", f"config={tmp_path / 'x.toml'}"])
    assert (settings_for(request).project, settings_for(request).bucket) == ("some-project", "mirror")


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        ([PROJECT], 1, "mount.vbnfs: usage: "),
        ([PROJECT, "/mnt", "-o", "nonsense"], 1, "mount.vbnfs: -o nonsense: no such mount option"),
        ([PROJECT, "/mnt", "-f", "-o", "rw"], 0, ""),
        ([PROJECT, "/no/such/folder"], 32, "mount.vbnfs: /no/such/folder: no such folder"),
        ([PROJECT, "/no/such/folder", "-o", "remount"], 32, "mount.vbnfs: /no/such/folder: not mounted"),
        ([PROJECT, "/mnt", "-o", "setuid=no-such-user"], 1, "mount.vbnfs: -o setuid=no-such-user: there is no such"),
    ],
)
def test_status(arguments: list[str], status: int, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """mount(8)'s statuses, each with one line on standard error and nothing on standard output.

    Where nothing is mounted, a second line is the address of what explains it.
    """
    assert run(arguments) == status
    out, err = capsys.readouterr()
    reason = without_address(err)
    assert (out, err.startswith(expected), reason.count("\n")) == ("", True, 1 if expected else 0)
    assert err.count("mount.vbnfs: see ") == (1 if status == mount_helper.NOT_MOUNTED else 0)


def test_a_system_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a program of the system is missing, that is status 2."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert run([PROJECT, "/mnt", "-N", "/proc/1/ns/mnt"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_defect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that was not foreseen is status 2, with its traceback and the address of what to do about it."""

    def fail(*_: object) -> None:
        raise KeyError("a name that is not there")

    monkeypatch.setattr(mount_helper, "_mount", fail)
    assert run([PROJECT, "/mnt"]) == mount_helper.SYSTEM_FAILS
    first, *_, message, address = capsys.readouterr().err.splitlines()
    assert (first, message) == ("Traceback (most recent call last):", "mount.vbnfs: this is a defect of vbnfs")
    assert address.endswith("#the-daemon-ended-or-there-was-a-defect")


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is status 8."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mount_helper, "_mount", interrupted)
    assert run([PROJECT, "/mnt"]) == 8
    assert capsys.readouterr().err == "mount.vbnfs: interrupted\n"
