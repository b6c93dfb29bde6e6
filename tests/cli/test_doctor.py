"""`vbnfs doctor`: lines, JSON, report and exit status of the whole command, without a mount of a dataset."""

import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.fakes.dataset import serve
from tests.fixtures_mount import run_vbnfs
from tests.mount_namespaces import ALONE
from tests.test_documents import ROOT, anchors_of
from vbnfs.cli import doctor as work
from vbnfs.cli.main import cli
from vbnfs.doctor.examination import CHECKS, Examination, Result
from vbnfs.doctor.findings import Level, good
from vbnfs.errors import DoctorError

PAGE = ROOT / "docs" / "troubleshooting.md"
SESSION = "ecephys_sessions/ecephys_session_1044385384.nwb"


def doctor(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it where nothing is mounted."""
    return subprocess.run(
        [*ALONE, sys.executable, "-m", "vbnfs", "doctor", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.root
@pytest.mark.usefixtures("mountpoint")  # so that it is left out where there is no FUSE
def test_all_is_well(tmp_path: Path) -> None:
    """Each check has a line, the status is 0, no failure is said, and no cache is made."""
    with serve({"0.4.0": {SESSION: b"session"}}) as server:
        done = doctor("--endpoint-url", server.endpoint_url)
    assert (done.returncode, "need" in done.stderr) == (0, False), done.stdout
    *lines, last = done.stdout.splitlines()
    assert last == "nothing needs doing"
    assert [line[10:24].strip() for line in lines] == [
        check.name for check in CHECKS if check.name not in {"mirror", "site cache"}
    ]
    assert {line[:10].strip() for line in lines} <= {"good", "note", "left out"}
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "vbnfs.log").exists()


@pytest.mark.root
@pytest.mark.usefixtures("mountpoint")  # so that it is left out where there is no FUSE
def test_something_needs_doing(tmp_path: Path) -> None:
    """What needs doing stands with remedy and section; the status is 1; the report has all but what is private."""
    secret = "hunter2.neurolab"
    env = {
        "HTTP_PROXY": f"http://asmith:{secret}@127.0.0.1:1",
        "VBNFS_CACHE_DIR": str(tmp_path / "Dr. Anna Smith" / "cache"),
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY",
        "NEUROLAB_TOKEN": "glpat-Zx81-77",
    }
    report = tmp_path / "report.txt"
    done = doctor("--endpoint-url", "http://192.0.2.77:8333", "--report", report, env=env)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("to do"))
    assert lines[at].split()[2] == "proxy"
    assert "remedy: check the proxy and the variable that names it" in lines[at + 1]
    assert lines[at + 2].strip() == f"see {PAGE}#behind-a-proxy"
    assert "nothing needs doing" not in done.stdout
    assert "1 thing needs doing here: proxy" in done.stderr
    assert "#vbnfs-doctor-says-that-something-needs-doing" in done.stderr
    text = report.read_text()
    private = (*env.values(), secret, "asmith", "Smith", "192.0.2.77", "127.0.0.1", str(tmp_path))
    us = pwd.getpwuid(os.geteuid()).pw_name
    assert [one for one in (*private, *([us] if us != "root" else [])) if one in text] == []
    assert {"<proxy>", "HTTP_PROXY", "<cache>"} <= set(re.findall(r"<\w+>|\w+", text))
    assert report.stat().st_mode & 0o777 == 0o600


@pytest.mark.root
@pytest.mark.usefixtures("mountpoint")  # so that it is left out where there is no FUSE
def test_as_json_with_wrong_settings(tmp_path: Path) -> None:
    """JSON has each finding with check, level, text, remedy and where to read on; a wrong file is one of them."""
    (tmp_path / "file").touch()
    (tmp_path / "wrong.toml").write_text("cache_size = ")
    wrong = ("--config", tmp_path / "wrong.toml", "--log-file", tmp_path / "file" / "log")
    done = doctor("--json", "--offline", *wrong, env={"VBNFS_CACHE_SIZE": "much"})
    assert done.returncode == 1
    assert "2 things need doing here: settings, log" in done.stderr
    found = json.loads(done.stdout)
    assert found["needs_doing"] is True
    settings, log = (one for one in found["findings"] if one["level"] == "to do")
    assert (settings["check"], "not a TOML file" in settings["text"]) == ("settings", True)
    assert (log["check"], "Not a directory" in log["text"]) == ("log", True)
    assert log["see"].endswith("#the-log-file-cannot-be-written")
    assert {frozenset(one) for one in found["findings"]} == {frozenset({"check", "level", "text", "remedy", "see"})}


def test_wrong_usage() -> None:
    """An option that is wrong is wrong usage, also where a variable is wrong, too: nothing is checked."""
    done = run_vbnfs("doctor", "--offline", "--cache-size", "much", env={"VBNFS_REFRESH": "never"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "--cache-size: 'much' will not do" in done.stderr


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    """A report without a place is a failure that names the file."""
    order = work.order_of({"config_file": None}, is_measured=False)
    with pytest.raises(DoctorError, match=r"none/report.txt: the report cannot be written: No such file"):
        work.write_report(order, Examination((), {}), tmp_path / "none" / "report.txt")


def test_findings_are_shown_whatever_becomes_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What took seconds to find out stands there, also where the report has no place."""
    found = Examination((Result("kernel", good("Linux 6.18")),), {})
    monkeypatch.setattr(work, "examine", lambda order: found)
    done = CliRunner().invoke(cli, ["doctor", "--report", str(tmp_path / "none" / "report.txt")], prog_name="vbnfs")
    assert isinstance(done.exception, DoctorError)
    assert "Linux 6.18" in done.output


def test_sections_are_there() -> None:
    """Each section that a finding names is a heading of the page."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "vbnfs" / "doctor").glob("*.py"))
    named = set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+){2,})"', text))
    assert named - anchors_of(PAGE) == set()
    assert len(named) > 10


def test_the_document() -> None:
    """docs/doctor.md has each check in the order in which it is shown, each word, and each mark of a report."""
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    example = text.split("```")[1].splitlines()
    shown = [line[10:24].strip() for line in example if line[:10].strip() in {"good", "note"}]
    assert shown == [check.name for check in CHECKS if check.name not in {"mirror", "site cache"}]
    rows = re.findall(r"^\| `([a-z ]+)` \|", text, re.MULTILINE)
    assert rows == [*Level, *(check.name for check in CHECKS)]
    code = "".join((ROOT / "vbnfs" / "doctor" / name).read_text() for name in ("private.py", "redaction.py"))
    assert set(re.findall('"(<[a-z]+>)"', code)) == set(re.findall("`(<[a-z]+>)`", text))


def test_other_words_for_it() -> None:
    """Words that other programs have for it lead to the command."""
    for word in ("diagnose", "health"):
        done = run_vbnfs(word)
        assert (done.returncode, "Did you mean 'vbnfs doctor'?" in done.stderr) == (2, True)
    assert "doctor" in cli.commands
