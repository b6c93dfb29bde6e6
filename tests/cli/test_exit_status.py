"""How every command ends: 0 done; 1 understood, but not done; 2 the command line or a setting is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, always, error
from tests.fixtures_mount import Mounts, run_vbnfs
from tests.test_documents import ROOT, anchors_of
from vbnfs.cli import main as main_module

PAGE = ROOT / "docs" / "troubleshooting.md"

# Command lines that no machine could carry out, and a word that the message has.
WRONG = [
    ("mount", "folder?"),
    ("umount", "folder?"),
    ("mount {mnt} --cache-size 1", "--cache-size"),
    ("mount {mnt} -o rw", "read-only"),
    ("mount {mnt} -o cash_size=1G", "no such mount option; did you mean cache_size? There are dataset, bucket,"),
    ("mount {mnt} -o xyzzy=1", "no such mount option; there are dataset, bucket,"),
    ("mount {mnt} -o x", "and mount(8)'s own, such as ro, nodev, nofail"),
    ("mount {mnt} --refresh 0.001", "a number of seconds from 1 to 100,000,000 is wanted"),
    ("mount {mnt} --io-timeout 0.001", "a number of seconds from 0.1 to 86,400 is wanted"),
    ("mount {mnt} --config {place}/none.toml", "no such configuration file"),
    ("umount --config {place}/none.toml", "no such configuration file"),
    ("mount {mnt} --ca-bundle {place}/full/file", "no usable certificates"),
    ("mount {mnt} --ca-bundle {place}/none", "no usable certificates: No such file or directory"),
    ("mount {mnt} {mnt}", "unexpected extra argument"),
    ("status --jason", "--json"),
    ("versions --bucket _", "S3 bucket's name"),
    (
        "versions --dataset nix",
        "'nix' will not do: there are visual-behavior-neuropixels, visual-behavior-ophys; a table",
    ),
    (
        "mount {mnt} -o dataset=nix",
        "there are visual-behavior-neuropixels, visual-behavior-ophys; a table [datasets.NAME]",
    ),
    (
        "settings --config {place}/table.toml",
        "no such key: buckett; there are bucket, project, region, endpoint_url,",
    ),
    ("settings --cache-size much", "200G"),
    (
        "verify {mounted} --dataset visual-behavior-ophys",
        "--dataset visual-behavior-ophys: bucket visual-behavior-ophys",
    ),
    ("verify {mounted} --bucket other", "--bucket other: the mount {mounted} has visual-behavior-neuropixels-data"),
    ("versions --config {place}/wrong.toml", "no such setting"),
    ("diff 0.1.0 --format xml", "xml"),
    ("diff 0.1.0 --json --format allensdk", "exclude each other"),
    ("urls --dataset-version /", "0.5.0"),
    ("verify --endpoint-url nonsense", "http://localhost:8333"),
    ("clean --cache-size much", "200G"),
    ("clean --config-folder {place}", "no such setting"),
    ("clean --config-folder {place} --cache-size 1G", "leave --cache-size out"),
    ("clean --config-folder {place} --config {place}/wrong.toml", "leave --config out"),
    ("diff 0.1.0 --summary --format allensdk", "exclude each other"),
    ("umount {mnt} --config {other}", "leave --config out"),
    ("umount --all {mnt}", "name no folder"),
    ("import", "Missing argument 'DIR'"),
    ("import {place} --dry", "--dry-run"),
    ("install-helper --rooot", "--root"),
    ("install-units --rooot", "--root"),
    ("demo --keeep", "--keep"),
    ("mout {mnt}", "Did you mean 'vbnfs mount' or 'vbnfs umount'"),
    ("unmount {mnt}", "Did you mean 'vbnfs umount'?"),
    ("fetch {mnt}", "Did you mean 'vbnfs prefetch'?"),
    ("cache", "Did you mean 'vbnfs clean --dry-run', which says what the cache takes, or 'vbnfs clean'?"),
    ("help", "Did you mean 'vbnfs --help'?"),
    ("config", "Did you mean 'vbnfs settings'?"),
    ("stop", "Did you mean 'vbnfs umount'?"),
    ("logs", "Did you mean 'vbnfs status', which says where the log is"),
    ("completions", "Did you mean 'vbnfs install'?"),
    ("mount {mnt} --cache_size 5G", "--cache-size"),
    ("ls", "Did you mean 'vbnfs versions' or, for the files, 'ls FOLDER'?"),
]
# Those that another machine, or this one at another time, could.
NOT_DONE = [
    ("status {mounted}s", "near it: {mounted}"),
    ("verify manifets/x.nwb", "near it: manifests"),
    ("verify 0.1", "near it: 0.1.0"),
    ("verify {mounted}/manifets/v0.1.0", "lists those that there are; near it: manifests"),
    ("urls --dataset-version 0.1.1", "near it: 0.1.0"),
    ("mount {place}/none/mnt", "mkdir -p"),
    ("mount {place}/made --endpoint-url {unreachable}", "cannot be reached"),
    ("mount {place}/full/file", "not a folder; mount on an empty folder of your own"),
    (
        "mount {place}/full",
        "not empty, and a mount would hide what is there; name an empty folder, or add -o nonempty",
    ),
    ("mount {place}/circle", "too many links"),
    ("mount {mounted}", "'vbnfs umount {mounted}' takes it away"),
    ("mount {mnt} --cache-dir {mnt}", "must not lie in one another"),
    ("mount {mnt} --cache-dir {place}/full/file", "--cache-dir"),
    ("mount {mnt} --log-file {place}/full/file/x", "--log-file"),
    ("mount {mnt} --endpoint-url {unreachable}", "cannot be reached"),
    ("mount {mnt} --bucket other-bucket", "check --bucket"),
    ("mount {mnt} --offline --bucket other-bucket", "leave --offline out"),
    ("mount {mnt} --dataset-version 9.9", "there are: 0.1.0"),
    ("umount {mnt}", "'vbnfs status' lists those that there are"),
    ("status {mnt}", "'vbnfs status' lists those that there are"),
    ("versions --endpoint-url {unreachable}", "cannot be reached"),
    ("versions --cache-dir {place}/full/file", "--cache-dir"),
    ("diff 9.9", "there are: 0.1.0"),
    ("diff", "no older dataset version than 0.1.0"),
    ("urls --dataset-version 9.9", "there are: 0.1.0"),
    ("verify {place}/none", "{place}/none: not in a vbnfs mount"),
    ("verify ../none", "../none: not in a vbnfs mount"),
    ("verify {mounted}/none", "{mounted}/none: no such file or folder; 'ls {mounted}' lists"),
    ("verify {mounted}/no/such/file", "'ls {mounted}' lists those that there are"),
    ("verify {mounted} 0.1.0", "one after the other"),
    ("verify none", "none: not in the dataset"),
    ("clean --cache-dir {place}/full/file", "--cache-dir"),
    ("import {place}/none", "{place}/none: no such folder"),
    ("import {mounted}", "in the mount {mounted}"),
    ("import {place}/full", "no file of this dataset"),
    ("install-helper --root {place}/full/file", "full/file"),
    ("install-units --root {place}/full/file", "full/file"),
    ("demo {place}/full", "name another one"),
]
DONE = [
    "mount -o nonempty {place}/full",
    "umount {place}/full",
    "mount {place}/link",  # to a folder that is not there yet
    "umount {place}/target",
    "umount --if-mounted {mnt}",
    "status {mounted}",  # without a folder root is shown all mounts of the machine
    "status --json {mounted}",
    "versions",
    "diff 0.1.0",
    "urls",
    "urls --offline",
    "verify",
    "clean",
    "settings",
    "settings --json --dataset visual-behavior-ophys",
    "versions --dataset visual-behavior-neuropixels",
    "install-helper --root {place}/root",
    "install-units --root {place}/root --remove",
    "--help",
    "--version",
]


def test_every_command_keeps_to_one_rule(mounts: Mounts, tmp_path: Path) -> None:
    """0: done. 1: it could not be done on this machine now. 2: the words or the settings are wrong.

    What went wrong is one line, with the thing's name and the remedy. For 1 a second line is the address of the
    section of docs/troubleshooting.md that explains it. Nothing else is printed.
    """
    dataset = FakeDataset()
    dataset.publish("0.1.0", {"a/a.nwb": b"the one"})
    for folder in ("mnt", "place/full", "place/root"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "place/full/file").write_text("no certificate")
    (tmp_path / "place/circle").symlink_to("circle")
    (tmp_path / "place/link").symlink_to("target")
    (tmp_path / "place/wrong.toml").write_text("nonsense = 1")
    (tmp_path / "place/table.toml").write_text("[datasets.mine]\nbuckett = 'b'")
    (tmp_path / "other.toml").write_text("")
    with FakeS3Server(dataset.store) as server:
        mounted = mounts(server.endpoint_url, name="mounted").path
        names = {
            "other": tmp_path / "other.toml",
            "mnt": tmp_path / "mnt",
            "place": tmp_path / "place",
            "mounted": mounted,
            "unreachable": "http://127.0.0.1:1",
        }
        env = {"VBNFS_ENDPOINT_URL": server.endpoint_url}
        for status, table in ((2, WRONG), (1, NOT_DONE), (0, [(line, "") for line in DONE])):
            for line, expected in table:
                done = run_vbnfs(*line.format(**names).split(), env=env)
                assert (line, done.returncode, done.stderr) == (line, status, done.stderr)
                assert expected.format(**names) in done.stderr, line
                assert "Traceback" not in done.stderr, line
                address = re.findall(rf"^vbnfs: see {PAGE}#(.+)$", done.stderr, re.MULTILINE)
                assert len(address) == (1 if status == 1 else 0), line
                assert set(address) <= anchors_of(PAGE), line
                assert status != 1 or (done.stdout, done.stderr.count("\n")) == ("", 2), line


@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (404, "NoSuchBucket"), (403, "AccessDenied")])
def test_a_listing_that_is_not_there(status: int, code: str, tmp_path: Path) -> None:
    """The message names bucket and project as what to check: there is no other dataset version to read instead."""
    (tmp_path / "mnt").mkdir()
    with FakeS3Server(FakeDataset().store) as server:
        server.behaviours.append(always(error(status, code)))
        for command in ("versions", "diff 0.1.0", "urls", "verify", f"mount {tmp_path}/mnt"):
            done = run_vbnfs(*command.split(), "--endpoint-url", server.endpoint_url)
            assert (done.returncode, done.stdout) == (1, "")
            assert "check --bucket" in done.stderr
            assert "--project" in done.stderr
            assert "another dataset version" not in done.stderr


def test_a_defect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that was not foreseen ends with its traceback, and with the address of what to do about it."""

    def fail(**_: object) -> None:
        raise KeyError("a name that is not there")

    monkeypatch.setattr(main_module.cli, "main", fail)
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    out, err = capsys.readouterr()
    anchor = "the-daemon-ended-or-there-was-a-defect"
    assert (ended.value.code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.splitlines()[-2:] == ["vbnfs: this is a defect of vbnfs", f"vbnfs: see {PAGE}#{anchor}"]
    assert anchor in anchors_of(PAGE)


def test_a_full_disk_below_standard_output() -> None:
    """A failure to write results is reported in one line, with status 1."""
    with Path("/dev/full").open("w") as full:
        for arguments in (["--help"], ["settings"]):  # `status` would ask all mounts of this machine
            command = [sys.executable, "-m", "vbnfs", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            assert (done.returncode, done.stderr) == (1, "vbnfs: standard output: No space left on device\n")
