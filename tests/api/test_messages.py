"""What a Python program's user reads: messages in Python's words, values as they show themselves, names by Tab."""

import inspect
import pickle
import typing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vbnfs
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, always, error
from vbnfs import errors
from vbnfs.api.messages import in_python
from vbnfs.api.settings import Settings
from vbnfs.config.settings import SETTING_BY_NAME
from vbnfs.errors import (
    AccessDeniedError,
    DatasetError,
    OfflineError,
    StorageError,
    UnreachableError,
    UsageError,
    VbnfsError,
)
from vbnfs.tables.columns import UnknownColumnError
from vbnfs.tables.query import QueryError

TABLE = "project_metadata/ecephys_sessions.csv"
OF_MOUNTS = {
    *("passthrough", "record", "fuse", "allow_other", "allow_root", "uid", "gid", "umask", "fmask", "dmask"),
    *("auto_unmount", "foreground", "log_file", "log_level", "mountpoint", "status_folder"),
    *("metrics_port", "metrics_file"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A server of a version with one table and one session."""
    files = {
        TABLE: b"ecephys_session_id,mouse_id,file_id\n7,1,0\n",
        "behavior_ecephys_sessions/7/ecephys_session_7.nwb": b"bytes",
    }
    with serve({"0.1.0": files}) as server:
        yield server


@pytest.mark.parametrize(
    ("typed", "python"),
    [
        ("check --bucket and --endpoint-url", "check bucket and endpoint_url"),
        ("offline (--offline)", "offline (offline=True)"),
        ("--offline: 'perhaps' will not do", "offline: 'perhaps' will not do"),
        ("--fetch fetches what is missing", "fetch=True fetches what is missing"),
        ("name files, or --sessions QUERY ('all')", "name files, or sessions=\"...\" ('all')"),
        ("all of it is LFP: '--lfp yes' takes it", "all of it is LFP: 'lfp=\"yes\"' takes it"),
        ('sessions has it: --having-sessions "..."', 'sessions has it: having={"sessions": "..."}'),
        ('other has it: --having other "..."', 'other has it: having={"other": "..."}'),
        ("--having-... chooses among sessions", "having chooses among sessions"),
        (
            "'vbnfs clean --cache-size 1G' lets it, or --cache-dir",
            "'vbnfs clean --cache-size 1G' lets it, or cache_dir",
        ),
        ("docker run --device /dev/fuse", "docker run --device /dev/fuse"),
        ("manifests/v0.5.0/a.nwb: not there", "v0.5.0/a.nwb: not there"),
        ("x/manifests/v0.5.0/--offline: not there", "x/manifests/v0.5.0/--offline: not there"),
    ],
)
def test_options_in_python_s_words(typed: str, python: str) -> None:
    """An option is the parameter or setting of that name; commands that are to be typed stay."""
    assert in_python(typed) == python
    assert in_python(python) == python


def test_every_remedy() -> None:
    """No remedy of a failure names an option."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, StorageError)]
    assert [kind for kind in kinds if "--" in in_python(kind.remedy)] == []


def test_settings_that_will_not_do(tmp_path: Path) -> None:
    """A value is refused under the name that a program gave; several values are a list; paths are taken."""
    with pytest.raises(UsageError, match=r"^cache_size: 'lots' will not do: a size such as 200G"):
        vbnfs.Dataset(cache_size="lots")
    with pytest.raises(UsageError, match=r"^dataset: 'other' will not do: there are visual-behavior-neuropixels"):
        vbnfs.Dataset("other")
    with pytest.raises(UsageError, match=r"^cache_dir: a text, a number, true or false is wanted"):
        vbnfs.Dataset(cache_dir=object())  # type: ignore[arg-type] # that is what is tried
    others = [tmp_path / "one", str(tmp_path / "two")]
    config = vbnfs.Dataset(cache_also=others, cache_size=1 << 30, offline=True, versions=["0.1.0", "0.2.0"]).config
    assert config.cache_also == (tmp_path / "one", tmp_path / "two")
    assert (config.cache_size_bytes, config.offline, config.versions) == (1 << 30, True, ("0.1.0", "0.2.0"))


def test_editors_know_the_settings() -> None:
    """The parameters of `Dataset` have names and types for editors, and by Tab: all settings but those of mounts."""
    assert set(typing.get_type_hints(Settings)) == SETTING_BY_NAME.keys() - OF_MOUNTS
    shown = inspect.signature(vbnfs.Dataset).parameters
    assert shown.keys() == {"name", "config_file", *(SETTING_BY_NAME.keys() - OF_MOUNTS)}
    assert shown["offline"].annotation == bool | str | None
    hints = inspect.get_annotations(vbnfs.Dataset.__init__)
    assert hints["settings"] == typing.Unpack[Settings]


def test_what_is_not_reached_says_what_helps() -> None:
    """An error that comes before anything is open has its remedy in its message, once, also when it is pickled."""
    dataset = vbnfs.Dataset(endpoint_url="http://127.0.0.1:9")
    for _ in range(2):
        with pytest.raises(UnreachableError) as unreachable:
            _ = dataset.versions
        text = str(unreachable.value)
        assert text.endswith("; check the network, endpoint_url and the proxy variables, and try again")
        assert text.count("try again") == 1
        assert str(pickle.loads(pickle.dumps(unreachable.value))) == text
    with pytest.raises(OfflineError, match=r"offline \(offline=True\).*; leave offline=True out"):
        _ = vbnfs.Dataset(endpoint_url="http://127.0.0.1:9", offline=True).versions


def test_sessions_and_queries_that_there_are_not(server: FakeS3Server) -> None:
    """A wrong id says where the right ones are; it may be text; messages say what to give in Python."""
    with vbnfs.Dataset(endpoint_url=server.endpoint_url) as dataset:
        with pytest.raises(KeyError, match=r"has no session 8; its ids are the index of \.sessions"):
            dataset.session(8)
        assert dataset.session("7").session_id == dataset.session(np.float64(7)).session_id == 7
        with pytest.raises(UsageError, match=r'chooses among sessions: add sessions="..."'):
            dataset.prefetch([TABLE], having={"units": "snr > 1"})
        with pytest.raises(KeyError, match="session 7 has no LFP of Z; it has none"):
            dataset.session(7).prefetch(lfp="probeZ")
        found = dataset.latest.verify([TABLE])
        assert found["detail"].tolist() == ["fetch=True fetches what is missing"]


def test_a_file_that_is_refused(server: FakeS3Server) -> None:
    """An `OSError` has the reason, the remedy in Python's words, and vbnfs's own error as its cause."""
    with vbnfs.Dataset(endpoint_url=server.endpoint_url) as dataset:
        _ = dataset.versions
        server.behaviours.append(always(error(403, "AccessDenied")))
        try:
            with pytest.raises(PermissionError, match=r"check bucket, or read it in another") as denied:
                dataset.session(7).file.read_bytes()
        finally:
            server.behaviours.clear()
        assert isinstance(denied.value.__cause__, AccessDeniedError)


def test_versions_and_files_that_there_are_not(server: FakeS3Server) -> None:
    """A version may be called as its folder is; one that there is not, and names of files, have what is near."""
    path = "behavior_ecephys_sessions/7/ecephys_session_7.nwb"
    with vbnfs.Dataset(endpoint_url=server.endpoint_url) as dataset:
        assert dataset.version("v0.1.0").name == "0.1.0"
        assert dataset.file(f"manifests/v0.1.0/{path}") == dataset.file(f"v0.1.0/{path}") == dataset.file(path)
        with pytest.raises(DatasetError, match=r"there is no dataset version 0\.9\.0; there are: 0\.1\.0"):
            dataset.file(f"v0.9.0/{path}")
        with pytest.raises(FileNotFoundError, match=rf"has no file 'ecephys_session_8\.nwb'; near it: {path}"):
            dataset.file("ecephys_session_8.nwb")
        with pytest.raises(
            FileNotFoundError, match=rf"has no file 'ecephys_sessions\.csv/x/ecephys_session_7\.nwb'; .*{path}"
        ):
            dataset.file("ecephys_sessions.csv/x/ecephys_session_7.nwb")


def test_values_show_what_they_are(server: FakeS3Server) -> None:
    """In a notebook a value says what it is, and asks S3 nothing for it."""
    with vbnfs.Dataset(endpoint_url=server.endpoint_url) as dataset:
        session = dataset.session(7)
        assert repr(session.file) == "<vbnfs.File v0.1.0/behavior_ecephys_sessions/7/ecephys_session_7.nwb>"
        assert repr(session.cite()) == "<vbnfs.Citation of 1 file: print() shows it>"


def test_tab_offers_what_a_program_uses() -> None:
    """`vbnfs.` and Tab: the public names and `errors`, which need no import of their own; no modules of vbnfs's."""
    assert {name for name in dir(vbnfs) if not name.startswith("_")} == {*vbnfs.__all__, "errors"}
    assert issubclass(vbnfs.errors.UsageError, vbnfs.errors.VbnfsError)


def kinds(above: type[VbnfsError]) -> Iterator[type[VbnfsError]]:
    """All classes of errors, of modules that have their own, too."""
    yield above
    for kind in above.__subclasses__():
        yield from kinds(kind)


def test_errors_come_out_of_other_processes() -> None:
    """Each can be pickled, with all that it has: a pool of processes waits without end for one that cannot."""
    found = {kind for kind in kinds(VbnfsError) if kind.__module__.startswith("vbnfs.")}
    assert {QueryError, UnknownColumnError} <= found
    for kind in found:
        error = (
            kind("what is wrong", remedy="what helps") if issubclass(kind, StorageError) else kind("what is wrong")
        )
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.remedy) == (kind, "what is wrong", error.remedy)
        # A library that pickles tracebacks, as Dask's does, also stores the number, which is the class's here.
        assert vars(again) | {"errno": again.errno} == vars(error) | {"errno": error.errno}
