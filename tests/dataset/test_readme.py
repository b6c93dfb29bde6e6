"""The text at the top of a mount."""

from tests.dataset.build import manifest
from vbnfs.dataset.manifest import DatasetVersion, ReleaseNames
from vbnfs.dataset.readme import readme

MANIFESTS = [manifest("0.9.0", {"a": "1"}), manifest("0.10.0", {f"{n}": "1" for n in range(1234)})]


def text_of(default: str = "0.10.0", *, project: str = "project") -> str:
    version = DatasetVersion(default)
    return readme(MANIFESTS, default=version, bucket="data-bucket", project=project).decode()


def test_it_lists_every_version() -> None:
    """Each version stands with its folder and number of files, oldest first, under how many there are."""
    lines = [line.split() for line in text_of().splitlines() if "files" in line and "manifests/" in line]
    assert [line[:3] for line in lines if line[2] == "files"] == [
        ["manifests/v0.9.0", "1", "files"],
        ["manifests/v0.10.0", "1,234", "files"],
    ]
    assert "Dataset versions (2):" in text_of()


def test_it_marks_the_version_at_the_top() -> None:
    """One version is marked as the one at the top, be it the newest or not, and the text goes on with it."""
    for default in ("0.9.0", "0.10.0"):
        text = text_of(default)
        [marked] = [line for line in text.splitlines() if "<- shown at the top" in line]
        assert marked.split()[0] == f"manifests/v{default}"
        assert f"  manifests/v{default}/ " in text
        assert f"all of version {default}; " in text


def test_it_names_bucket_and_project() -> None:
    """The text names the origin of the data, under a headline that is underlined in full."""
    text = text_of(project="other-project")
    assert text.startswith("other-project\n=============\n")
    assert "'other-project'" in text
    assert "'data-bucket'" in text


def test_braces_in_names_are_text() -> None:
    """Names are put into the text as they are."""
    assert text_of(project="{default}").startswith("{default}\n=========\n")


def test_it_fits_on_a_terminal() -> None:
    """No line is longer than 80 characters, and the last one ends."""
    assert max(map(len, text_of().splitlines())) <= 80
    assert text_of().endswith(".\n")


def test_it_names_folders_that_there_are() -> None:
    """Tables and flat sessions are pointed to where the release has them, and not elsewhere."""
    assert "project_metadata/" not in text_of()
    assert "ecephys_sessions/" not in text_of()
    files = {"project_metadata/units.csv": "1", "nested/ecephys_session_1.nwb": "2"}
    version = DatasetVersion("1.0.0")
    text = readme([manifest("1.0.0", files)], default=version, bucket="b", project="p").decode()
    assert "  project_metadata/ " in text
    assert "  ecephys_sessions/ " in text


def test_the_descriptions_stand_in_one_column() -> None:
    """What the folders are for begins in the same column for short and long names of versions."""
    for default in ("0.9.0", "0.10.0"):
        lines = text_of(default).split("Where to look next:\n\n")[1].splitlines()[:2]
        assert {line.index(line.split(maxsplit=1)[1]) for line in lines} == {34}


def test_it_tells_how_allensdk_keeps_to_a_version() -> None:
    """Where AllenSDK can load versions, the text names what holds in several processes at once; it fits, too."""
    assert "AllenSDK" not in text_of()
    loadable = manifest("1.0.0", {"a": "1"}, names=ReleaseNames("project", "1.0.0"))
    text = readme([loadable], default=DatasetVersion("1.0.0"), bucket="b", project="p").decode()
    assert "call load_manifest in each of them, or\nuse allensdk/static/v<version> with use_static_cache" in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.endswith(".\n")
