"""Named datasets: the known ones, those of a TOML file, and which setting wins where a dataset is named."""

import itertools
import re
from pathlib import Path

import pytest

from tests.config.examples import SOURCES, load_from, plain, toml
from vbnfs.config.datasets import DATASET_SETTINGS, DEFAULT_DATASET, MirrorPlace, all_datasets, complete_dataset
from vbnfs.config.settings import SETTING_BY_NAME, Config
from vbnfs.config.sources import load_config, load_settings, settings_given_in
from vbnfs.errors import UsageError

NEUROPIXELS = ("visual-behavior-neuropixels-data", "visual-behavior-neuropixels", "us-west-2")
OPHYS = ("visual-behavior-ophys-data", "visual-behavior-ophys", "us-west-2")
MIRROR = """
[datasets.mirror]
bucket = "the-mirror"
project = "visual-behavior-neuropixels"
region = "eu-central-1"
endpoint_url = "https://s3.example.org/"
ca_bundle = "/etc/ssl/example.pem"
dataset_version = "v0.4.0"
versions = ["v0.3.0", "mirror_manifest_v0.4.0.json"]
mirror = { bucket = "near", endpoint_url = "http://near", ca_bundle = "/with blank" }
"""


def place(config: Config) -> tuple[str, str, str]:
    return config.bucket, config.project, config.region


def with_file(directory: Path, text: str, **line: str) -> Config:
    return load_config(command_line=line, environ={}, config_file=toml(directory, text))


# Names


def test_the_default() -> None:
    """Without a name it is Visual Behavior Neuropixels."""
    assert (plain().dataset, place(plain())) == (DEFAULT_DATASET, NEUROPIXELS)
    assert place(plain(dataset="visual-behavior-neuropixels")) == NEUROPIXELS


@pytest.mark.parametrize("source", SOURCES)
def test_the_sister(tmp_path: Path, source: str) -> None:
    """Visual Behavior Ophys is one name, from any source."""
    config = load_from(tmp_path, "dataset", {source: "visual-behavior-ophys"})
    assert (config.dataset, place(config)) == ("visual-behavior-ophys", OPHYS)


def test_a_table(tmp_path: Path) -> None:
    """A table of the TOML file describes a dataset; it counts only where it is named."""
    config = with_file(tmp_path, MIRROR, dataset="mirror")
    assert (config.dataset, place(config)) == ("mirror", ("the-mirror", NEUROPIXELS[1], "eu-central-1"))
    assert (config.endpoint_url, config.ca_bundle) == ("https://s3.example.org", Path("/etc/ssl/example.pem"))
    assert config.mirror == MirrorPlace("near", "http://near", None, Path("/with blank"))
    assert config.dataset_version == "0.4.0"
    assert config.versions == ("0.3.0", "mirror_manifest_v0.4.0.json")
    assert with_file(tmp_path, MIRROR) == plain()
    assert with_file(tmp_path, f'dataset = "mirror"\n{MIRROR}') == config


def test_a_file_as_a_unit_has_it(tmp_path: Path) -> None:
    """An instance of the systemd unit is a file that names its dataset and its folder."""
    config = with_file(tmp_path, 'dataset = "visual-behavior-ophys"\nmountpoint = "/mnt/vbo"\ncache_size = "200G"')
    assert (config.dataset, place(config), config.mountpoint) == ("visual-behavior-ophys", OPHYS, Path("/mnt/vbo"))


def test_what_a_table_leaves_out(tmp_path: Path) -> None:
    """The project has the dataset's name, the bucket is called after the project, and the region is us-west-2."""
    text = "[datasets.one]\n[datasets.two]\nproject = 'p'\n[datasets.three]\nbucket = 'b-3'\nregion = 'local'"
    assert place(with_file(tmp_path, text, dataset="one")) == ("one-data", "one", "us-west-2")
    assert place(with_file(tmp_path, text, dataset="two")) == ("p-data", "p", "us-west-2")
    assert place(with_file(tmp_path, text, dataset="three")) == ("b-3", "three", "local")


def test_a_table_for_a_known_dataset(tmp_path: Path) -> None:
    """It changes what it says and keeps the rest, for the default dataset without a name, too."""
    text = f"[datasets.{DEFAULT_DATASET}]\nendpoint_url = 'http://mirror'\nbucket = 'other'"
    for line in ({}, {"dataset": DEFAULT_DATASET}):
        config = with_file(tmp_path, text, **line)
        assert (config.dataset, config.endpoint_url) == (DEFAULT_DATASET, "http://mirror")
        assert place(config) == ("other", *NEUROPIXELS[1:])


def test_every_key_of_a_table_is_a_setting() -> None:
    """What a dataset may say is a setting; each dataset says where it is."""
    assert set(DATASET_SETTINGS) < set(SETTING_BY_NAME)
    for dataset in all_datasets({"x": {"ca_bundle": "/x"}}).values():
        assert {"bucket", "project", "region"} <= set(dataset.texts) <= set(DATASET_SETTINGS)
    assert complete_dataset("visual-behavior-ophys", {}) == all_datasets({})["visual-behavior-ophys"]


# Which setting wins


@pytest.mark.parametrize(("stronger", "weaker"), [*itertools.combinations(SOURCES, 2)])
def test_a_dataset_ranks_with_its_source(tmp_path: Path, stronger: str, weaker: str) -> None:
    """A dataset wins over settings of weaker sources; settings of stronger sources win over it."""

    def bucket(texts: dict[str, tuple[str, str]]) -> str:
        given = {source: dict([pair]) for source, pair in texts.items()}
        lines = [f'{name} = "{text}"' for name, text in given.get("TOML", {}).items()]
        return load_config(
            command_line=given.get("command line", {}),
            mount_options=tuple(f"{name}={text}" for name, text in given.get("-o", {}).items()),
            environ={f"VBNFS_{name.upper()}": text for name, text in given.get("environment", {}).items()},
            config_file=toml(tmp_path, "\n".join(lines)),
        ).bucket

    named, own = ("dataset", "visual-behavior-ophys"), ("bucket", "own")
    assert bucket({stronger: named, weaker: own}) == OPHYS[0]
    assert bucket({stronger: own, weaker: named}) == "own"


def test_a_sources_own_settings_win(tmp_path: Path) -> None:
    """Where one source names a dataset and gives a setting of it, the setting counts."""
    line = {"dataset": "visual-behavior-ophys", "bucket": "own"}
    lines = "\n".join(f'{name} = "{text}"' for name, text in line.items())
    by_mount = {"mount_options": ("bucket=own,dataset=visual-behavior-ophys",)}
    by_environ = {"environ": {f"VBNFS_{name.upper()}": text for name, text in line.items()}}
    for config in (
        load_config(command_line=line, environ={}),
        load_config(command_line={}, **{"environ": {}, **by_mount}),
        load_config(command_line={}, **by_environ),
        with_file(tmp_path, lines),
    ):
        assert (place(config), config.dataset) == (("own", *OPHYS[1:]), None)


def test_only_the_strongest_name_counts(tmp_path: Path) -> None:
    """Of a dataset that a weaker source names nothing is used, not even what the other does not say."""
    path = toml(tmp_path, f"dataset = 'mirror'\n{MIRROR}")
    config = load_config(command_line={"dataset": "visual-behavior-ophys"}, environ={}, config_file=path)
    assert config == plain(dataset="visual-behavior-ophys")


def test_what_a_dataset_does_not_say(tmp_path: Path) -> None:
    """A setting that the dataset does not give comes from the other sources: one server may have all of them."""
    config = with_file(tmp_path, "endpoint_url = 'http://all'\nregion = 'x'", dataset="visual-behavior-ophys")
    assert (config.endpoint_url, config.region, config.dataset) == (
        "http://all",
        "us-west-2",
        "visual-behavior-ophys",
    )
    assert with_file(tmp_path, "endpoint_url = 'http://all'\nregion = 'x'").region == "x"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "mirror"),
        ({"dataset_version": "0.1.0", "region": "local"}, "mirror"),
        ({"bucket": "the-mirror", "endpoint_url": "https://s3.example.org"}, "mirror"),
        ({"bucket": "other"}, None),
        ({"project": "other"}, None),
        ({"endpoint_url": "http://other"}, None),
    ],
)
def test_when_it_has_the_name(tmp_path: Path, settings: dict[str, str], name: str | None) -> None:
    """The configuration has the dataset's name unless its bucket, project or server was replaced."""
    assert with_file(tmp_path, MIRROR, dataset="mirror", **settings).dataset == name


# mount(8)


def test_the_source_of_mount8(tmp_path: Path) -> None:
    """mount(8)'s source is a dataset's name, or else a project; its bucket gives way to any source of settings."""

    def mounted(source: str, text: str = "", *options: str) -> Config:
        path = toml(tmp_path, text + MIRROR)
        return load_config(command_line={}, mount_options=options, environ={}, config_file=path, mount_source=source)

    assert place(mounted("visual-behavior-ophys")) == OPHYS
    assert mounted("visual-behavior-ophys").dataset == "visual-behavior-ophys"
    assert place(mounted("derived")) == ("derived-data", "derived", "us-west-2")
    assert mounted("mirror") == with_file(tmp_path, MIRROR, dataset="mirror")
    assert place(mounted("visual-behavior-ophys", "bucket = 'given'\nproject = 'x'\n")) == ("given", *OPHYS[1:])
    assert mounted("visual-behavior-ophys", "dataset = 'mirror'\n") == mounted("visual-behavior-ophys")
    assert mounted("none", "", "dataset=mirror") == mounted("mirror")
    assert mounted("none", "", "dataset=mirror,bucket=own").bucket == "own"


# Refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[datasets.x]\nbuckett = 'a'", "[datasets.x] in {}: no such key: buckett; there are bucket, project,"),
        ("[datasets.x]\ncache_size = '1G'", "[datasets.x] in {}: cache_size holds for all datasets: write it above"),
        ("[datasets.x]\ndataset = 'y'", "[datasets.x] in {}: dataset holds for all datasets: write it above"),
        ("[datasets.x.y]\nbucket = 'a'", "[datasets.x] in {}: no such key: y; there are"),
        ("[datasets.'a b']\nbucket = 'a'", "[datasets.a b] in {}: 'a b' will not do: a name of letters"),
        ("[datasets.x]\nbucket = [1]", "bucket of [datasets.x] in {}: a text, a number, true or false is wanted"),
        ("[dataset.x]\nbucket = 'a'", "[dataset] in {}: the table of a dataset is spelled [datasets.NAME]"),
        ("datasets = 1", "datasets in {}: a table for each dataset is wanted, such as [datasets.NAME]"),
        ("[datasets]\nbucket = 'x'", "datasets.bucket in {}: a table is wanted: [datasets.bucket]"),
    ],
)
def test_tables_that_will_not_do(tmp_path: Path, text: str, message: str) -> None:
    """A table with another key or value is refused with its name, the key and the remedy, even if it is not used."""
    with pytest.raises(UsageError, match=re.escape(message.format(tmp_path / "settings.toml"))):
        with_file(tmp_path, text)


def test_a_bad_value_of_a_table(tmp_path: Path) -> None:
    """A value that will not do is refused where its dataset is used, with the table's name."""
    text = "[datasets.x]\nregion = 'R 2'"
    with pytest.raises(UsageError, match=re.escape("region of [datasets.x] in ") + ".*'R 2' will not do: an AWS"):
        with_file(tmp_path, text, dataset="x")
    assert with_file(tmp_path, text).region == "us-west-2"
    assert with_file(tmp_path, text, dataset="x", region="r2").region == "r2"


def test_a_name_that_is_unknown(tmp_path: Path) -> None:
    """It is refused with the names that there are, those of the file among them, and with how one is added."""
    names = f"mirror, {DEFAULT_DATASET}, visual-behavior-ophys"
    path = tmp_path / "settings.toml"
    expected = f"--dataset: 'x' will not do: there are {names}; a table [datasets.NAME] in {path} adds one"
    with pytest.raises(UsageError, match=re.escape(expected)):
        with_file(tmp_path, MIRROR, dataset="x")


# Where it came from


def test_where_each_value_came_from(tmp_path: Path) -> None:
    """Each setting has the source that gave it, by kind and by name."""
    path = toml(tmp_path, "cache_size = '2M'")
    loaded = load_settings(
        command_line={"dataset": "visual-behavior-ophys"},
        mount_options=("bucket=own",),
        environ={"VBNFS_REGION": "x", "VBNFS_VERIFY": "always"},
        config_file=path,
    )
    came = {found.setting.name: (found.source.kind, found.source.name_of(found.setting)) for found in loaded.values}
    assert came["dataset"] == ("command line", "--dataset")
    assert came["bucket"] == came["project"] == came["region"] == ("dataset", "visual-behavior-ophys")
    assert came["verify"] == ("environment", "VBNFS_VERIFY")
    assert came["cache_size"] == ("file", str(path))
    assert came["refresh"] == ("default", "")
    assert list(came) == list(SETTING_BY_NAME)
    assert loaded.datasets == [DEFAULT_DATASET, "visual-behavior-ophys"]


def test_what_a_command_line_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset that a command line names, or the file that it names, gives settings as options do."""
    place_of_dataset = {"bucket", "project", "region"}
    assert settings_given_in(["offline"], None, None) == {"offline"}
    assert settings_given_in(["dataset"], "visual-behavior-ophys", None) == {"dataset", *place_of_dataset}
    path = toml(tmp_path, MIRROR)
    assert settings_given_in([], None, path) == set()
    assert settings_given_in(["dataset"], "mirror", path) == {"dataset", *DATASET_SETTINGS}
    path = toml(tmp_path, f"dataset = 'mirror'\nverify = 'always'\n{MIRROR}")
    assert settings_given_in([], None, path) == {"dataset", "verify", *DATASET_SETTINGS}
    monkeypatch.setenv("VBNFS_CONFIG", str(path))  # this one has the table, and gives nothing by itself
    assert settings_given_in(["dataset"], "mirror", None) == {"dataset", *DATASET_SETTINGS}
    assert settings_given_in([], None, None) == set()
