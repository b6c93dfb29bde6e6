"""A report has nothing private: whatever goes in by settings, variables, paths and messages does not come out."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vbnfs.cache.sampling import Sample
from vbnfs.config.sources import load_config
from vbnfs.doctor import private
from vbnfs.doctor.disk import DiskFacts, Stored
from vbnfs.doctor.examination import Examination, Order, Result
from vbnfs.doctor.findings import note, to_do
from vbnfs.doctor.mounts import MountFacts
from vbnfs.doctor.redaction import Redactor
from vbnfs.doctor.report import report_text, vocabulary
from vbnfs.errors import UsageError

WORDS = vocabulary()
CONFIG = load_config(command_line={}, environ={}, config_file=Path("/dev/null"))
PRINTABLE = st.characters(exclude_categories=("C", "Z"), exclude_characters="/") | st.just(" ")


def is_a_secret(text: str) -> bool:
    """Whether it cannot stand in a report by chance: long enough, and not made of the program's own words alone."""
    is_long = sum(c.isalnum() for c in text) >= 6 and text.strip() == text
    return is_long and Redactor({}, WORDS).clean(text) != text


SECRETS = st.text(PRINTABLE, min_size=6, max_size=30).filter(is_a_secret)


def report_with(secret: str, way: str) -> str:
    """The report where a secret has come in by one way, and messages quote it in all forms."""
    folder = Path("/data") / secret
    config = {
        "cache_dir": replace(CONFIG, cache_dir=folder / "cache"),
        "log_file": replace(CONFIG, log_file=folder),
        "record": replace(CONFIG, record=folder, cache_also=(folder / "lab",)),
        "bucket": replace(CONFIG, bucket=secret, dataset=None),
        "user": replace(CONFIG, trusted_users=(secret,)),
        "index": replace(CONFIG, index=f"https://host.test/{quote(secret)}"),
    }.get(way, CONFIG)
    variables = {
        "variable": {"AWS_SESSION_TOKEN": secret, "HUGGING_KEY": secret},
        "password": {"HTTPS_PROXY": f"http://me:{quote(secret, safe='')}@proxy.test:3128"},
        "home": {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        "setting": {"VBNFS_CACHE_SIZE": secret},
    }.get(way, {})
    refusal = UsageError(f"VBNFS_CACHE_SIZE: {secret!r} will not do: a size is wanted") if way == "setting" else None
    quoted = [secret, repr(secret), json.dumps(secret), shlex.quote(secret), quote(secret), quote(secret, safe="")]
    texts = [f"{one}: Permission denied; or mount on {folder}/vbn" for one in [*quoted, str(folder)]]
    facts = {
        "mounts": (MountFacts(str(folder) if way == "mount" else "/mnt", {"last_error": texts[0], "pid": 12}),),
        "disk": DiskFacts(
            directory=config.cache_dir,
            stored=Stored(usage_bytes=1, limit_bytes=2, sample=Sample()),
            log_lines=(
                json.dumps({"timestamp": "2026-11-30T02:10:33Z", "reason": secret}),
                secret,
            ),
        ),
    }
    results = tuple(Result("disk", to_do(text, text, section="x")) for text in texts)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        order = Order(config=config, refusal=refusal, entries=())
        return report_text(order, Examination(results, facts))


WAYS = (
    "cache_dir",
    "log_file",
    "record",
    "bucket",
    "user",
    "index",
    "variable",
    "password",
    "home",
    "setting",
    "mount",
)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=20)
@given(secret=SECRETS)
@example(secret="kernel disk status")  # words of the program, of which a known secret may consist
@example(secret=".JUDGING")
@example(secret="Ben.Straße-2024")
@example(secret="AKIAIOSFODNN7EXAMPLE")
@example(secret="wJalrXUtnFEMI/K7MDENG".replace("/", "+"))
@example(secret="123456789012")
def test_a_known_secret_never_comes_out(way: str, secret: str) -> None:
    """What settings, variables and paths say is not in the report, however a message spells it."""
    report = report_with(secret, way)
    assert secret.casefold() not in report.casefold()
    assert "Permission denied" in report
    assert report.isascii() or all(c.isalnum() for c in report if not c.isascii())


@settings(max_examples=50)
@given(secret=st.text(st.characters(categories=("L", "N")), min_size=6, max_size=30).filter(is_a_secret))
def test_an_unknown_secret_never_comes_out(secret: str) -> None:
    """A word that is not the program's own is not in the report, by whatever way it gets into a message."""
    redactor = Redactor({}, WORDS)
    for text in (
        secret,
        f"such as {secret!r}",
        f"/home/{secret}/x",
        f"{secret}@host",
        f"x={secret};",
        f"{secret}.csv",
    ):
        assert secret not in redactor.clean(text)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("10.1.2.3 and fe80::1%eth0 and ::1", "<address> and <address> and <address>"),
        ("2001:db8:0:1:1:1:1:1, aa:bb:cc:dd:ee:ff", "<address>, <address>"),
        ("ben@lab.org", "<address>"),
        ("http://a:b@c.d:3/e?f=g", "<url>"),
        ("see /data/x/y.nwb, ~/vbn and /dev/fuse.", "see <path>, <path> and /dev/fuse."),
        ("as root, run: chmod 666 /dev/fuse", "as root, run: chmod 666 /dev/fuse"),
        ("Linux 6.18.5-amd64; vbnfs 0.1.0", "Linux 6.18.5-amd64; vbnfs 0.1.0"),
        ("2026-11-30 02:10:33: 1,234,567 of 123456", "2026-11-30 02:10:33: 1,234,567 of <removed>"),
        ("s3://visual-behavior-neuropixels-data/x", "<url>"),
        (
            "https://visual-behavior-neuropixels-data.s3.us-west-2.amazonaws.com answers",
            "https://visual-behavior-neuropixels-data.s3.us-west-2.amazonaws.com answers",
        ),
        (
            "visual-behavior-ophys-data.s3.us-west-2.amazonaws.com is known: 8 addresses",
            "visual-behavior-ophys-data.s3.us-west-2.amazonaws.com is known: 8 addresses",
        ),
        ("https://session-data.s3.us-west-2.amazonaws.com answers", "<url> answers"),
        ("session-data.s3.us-west-2.amazonaws.com is known", "<address> is known"),
        ("cannot connect to cache.lab.org port 443", "cannot connect to <address> port 443"),
        ("the proxy cache.proxy:3128, or a.server.Test", "the proxy <address>, or <address>"),
        (
            "vbnfs.log, README.txt, 0.5.0, fs.fuse.*_request_timeout",
            "vbnfs.log, README.txt, 0.5.0, fs.fuse.*_request_timeout",
        ),
        ("\x1b[31mred\x07 \N{SNOWMAN}", "?[<removed>? ?"),
    ],
)
def test_forms(text: str, cleaned: str) -> None:
    """Addresses, URLs and paths go, versions, times and public paths stay, and nothing drives a terminal."""
    assert Redactor({}, WORDS).clean(text) == cleaned


def test_marks_say_what_stood_there() -> None:
    """What is known has its own mark, in any case, and is not found within longer words."""
    known = {"/data/lab one/cache": "<cache>", "anna": "<user>", "node7": "<machine>"}
    redactor = Redactor(known, WORDS)
    text = "cache directory '/data/lab one/cache/x': it belongs to Anna on NODE7, not to annals"
    assert redactor.clean(text) == (
        "cache directory '<cache>/x': it belongs to <user> on <machine>, not to <removed>"
    )


def test_a_mount_with_other_settings() -> None:
    """What its status says of its dataset, servers and folders is private, also where it is of words of our own."""
    status = {
        **{"dataset": "sessions", "bucket": "session-data", "project": "mouse-session"},
        **{"endpoint_url": "http://storage:9000", "mirror": "bucket=lab-copy endpoint_url=http://mirror:80"},
        **{
            "proxy": "http://user:secret@proxy:3128 (HTTPS_PROXY)",
            "certificates": "/data/trusted hosts.pem (CURL_CA_BUNDLE)",
        },
        **{"cache_dir": "/data/Private Session/cache", "log_file": "/data/Private Session/log"},
        **{"record": {"file": "/data/Private Session/record", "problem": None, "lost_lines": 0}},
    }
    facts = {"mounts": (MountFacts("/mnt/Private Session", status),)}
    text = "session-data at storage:9000, by proxy:3128 or lab-copy, mouse-session; '/data/Private Session/x'"
    report = report_text(Order(config=CONFIG, entries=()), Examination((Result("mounts", note(text)),), facts))
    assert "<bucket> at <server>, by <proxy>" in report
    for word in (
        "session-data",
        "mouse-session",
        "storage",
        "secret",
        "lab-copy",
        "trusted hosts",
        "Private",
        "sessions",
    ):
        assert word not in report.partition("Findings")[2], word


def test_a_mount_that_says_too_much() -> None:
    """A report stays short, and is soon made, whatever another user's daemon puts into its status."""
    status = {
        **{"last_error": "a" * 900_000, "bucket": "b." * 100_000, "region": "@" * 100_000},
        "metrics": {f"figure_{number}": 1 for number in range(100_000)},
    }
    facts = {"mounts": (MountFacts("/mnt", status),)}
    report = report_text(Order(config=CONFIG, entries=()), Examination((), facts))
    lines = report.splitlines()
    assert len(lines) < 400
    assert max(map(len, lines)) <= 4 * 4000  # of marks


@pytest.mark.parametrize("text", ["a" * 100_000, "a.b-" * 25_000, "x+" * 50_000, ":" * 100_000, "1." * 50_000])
def test_a_text_of_one_word(text: str) -> None:
    """Redaction takes no longer than the text is long."""
    assert len(Redactor({}, WORDS).clean(text)) < 10 * len(text)


def test_names_of_users_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of this user, as a person too, of groups and of the machine are known."""
    monkeypatch.setattr(private, "user_name", lambda uid: "asmith")
    monkeypatch.setattr(private, "real_name", lambda uid: "Anna Smith")
    monkeypatch.setattr(private, "our_groups", lambda: {4711})
    monkeypatch.setattr(private, "group_name", lambda gid: "neurolab")
    monkeypatch.setattr(private.socket, "gethostname", lambda: "node7.example.edu")
    report = report_with("another secret", "user")
    order = Order(config=CONFIG, entries=())
    text = "asmith Anna Smith neurolab node7.example.edu node7 example.edu root"
    report = report_text(order, Examination((Result("limits", note(text)),), {}))
    assert "<user> <user> <group> <machine> <machine> <machine> root" in report


def test_a_report_is_of_use() -> None:
    """Findings, remedies, settings, figures of mounts and the end of the log can be read in it."""
    order = Order(config=replace(CONFIG, cache_size_bytes=1 << 40, offline=True), entries=())
    status = {"metrics": {"read_bytes": 123456789, "range_requests": 0}, "versions": ["0.5.0"], "is_offline": True}
    log = json.dumps({"timestamp": "2026-11-30T02:10:33.5Z", "level": "warning", "event": "online again"})
    facts = {
        "mounts": (MountFacts("/home/me/vbn", status),),
        "disk": DiskFacts(directory=Path("/x"), log_lines=("no JSON", log)),
    }
    finding = to_do("a read hangs", "check the network", section="x")
    lines = report_text(order, Examination((Result("server", finding),), facts)).splitlines()
    for line in (
        "to do     server        a read hangs; remedy: check the network",
        "cache_size: 1,099,511,627,776",
        "offline: True",
        "The mount <mount>",
        "metrics: read_bytes: 123,456,789",
        "versions: 1",
        "2026-11-30 02:10:33 warning online again",
    ):
        assert line in lines, line
    assert not any("JSON" in line for line in lines[10:])
