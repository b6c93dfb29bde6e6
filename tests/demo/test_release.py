"""The demo's release: that it is a genuine one, in every respect in which vbnfs or a user's program looks at it."""

import ast
import hashlib
import io
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hdmf.validate import ValidatorMap
from pynwb import NWBHDF5IO
from pynwb.validation import get_cached_namespaces_to_validate

from vbnfs.demo.cohort import make_cohort, records
from vbnfs.demo.lfp_file import write_lfp
from vbnfs.demo.release import LocalRelease, make_release
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.session_file import Processing, write_behavior_session, write_ecephys_session
from vbnfs.demo.tables import NO_FILE
from vbnfs.demo.upload import DemoRelease, ReleasedFile

_STEMS = ["units", "probes", "channels", "ecephys_sessions", "behavior_sessions"]


def fetch(server: SeaweedServer, release: DemoRelease, key: str, version_id: str | None = None) -> bytes:
    """Get an object without credentials."""
    query = f"?versionId={version_id}" if version_id else ""
    with urllib.request.urlopen(f"{server.endpoint_url}/{release.bucket}/{key}{query}", timeout=60) as answer:
        body: bytes = answer.read()
        return body


def manifest(server: SeaweedServer, release: DemoRelease, version: str) -> dict[str, Any]:
    """Get and parse a dataset version's manifest."""
    parsed: dict[str, Any] = json.loads(fetch(server, release, release.manifest_key(version)))
    return parsed


def table(release: DemoRelease, version: str, stem: str) -> pd.DataFrame:
    """Read one of the metadata tables."""
    return pd.read_csv(release.files[version][f"project_metadata/{stem}.csv"].source)


def all_files(release: DemoRelease) -> Iterator[tuple[str, str, ReleasedFile]]:
    """Yield (dataset version, path, file)."""
    for version, files in release.files.items():
        for path, file in files.items():
            yield version, path, file


def of_kind(release: DemoRelease, version: str, ending: str) -> dict[str, ReleasedFile]:
    """Return the files whose path ends so."""
    return {path: file for path, file in release.files[version].items() if re.search(ending, path)}


def kinds_of_change(release: DemoRelease, old: str, new: str) -> dict[str, set[str]]:
    """Sort the paths of two versions by what happened to them."""
    before, after = release.files[old], release.files[new]
    old_hashes = {file.file_hash for file in before.values()}
    kinds: dict[str, set[str]] = {name: set() for name in ("same", "anew", "changed", "renamed", "new", "gone")}
    for path, file in after.items():
        if path not in before:
            kinds["renamed" if file.file_hash in old_hashes else "new"].add(path)
        elif before[path].file_hash != file.file_hash:
            kinds["changed"].add(path)
        else:
            kinds["same" if before[path].version_id == file.version_id else "anew"].add(path)
    kinds["gone"] = set(before) - set(after)
    return kinds


def test_every_file_can_be_fetched_by_its_version_id(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """What S3 gives for a version id has the size and the hash that the release names, in all versions."""
    for _, path, file in all_files(tiny_release):
        body = fetch(seaweed, tiny_release, tiny_release.key(path), file.version_id)
        assert (len(body), hashlib.blake2b(body).hexdigest()) == (file.size_bytes, file.file_hash)


def test_manifests_have_the_real_keys(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """A manifest holds the keys that AllenSDK reads, no others, in the forms that it expects."""
    for version in tiny_release.versions:
        parsed = manifest(seaweed, tiny_release, version)
        assert list(parsed) == [
            "project_name",
            "manifest_version",
            "data_pipeline",
            "metadata_file_id_column_name",
            "metadata_files",
            "data_files",
        ]
        assert (parsed["project_name"], parsed["manifest_version"]) == ("visual-behavior-neuropixels", version)
        assert parsed["metadata_file_id_column_name"] == "file_id"
        assert [list(step) for step in parsed["data_pipeline"]] == [["name", "version", "comment"]]
        assert parsed["data_pipeline"][0]["name"] == "AllenSDK"
        assert list(parsed["metadata_files"]) == _STEMS
        assert list(parsed["data_files"]) == [str(number) for number in range(len(parsed["data_files"]))]


def test_manifests_name_the_files_with_real_urls(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Each entry is url, version_id and file_hash of a file of the release, and each file has an entry."""
    start = "https://visual-behavior-neuropixels-data.s3.us-west-2.amazonaws.com/visual-behavior-neuropixels/"
    for version in tiny_release.versions:
        parsed = manifest(seaweed, tiny_release, version)
        entries = [*parsed["metadata_files"].values(), *parsed["data_files"].values()]
        assert {entry["url"].removeprefix(start) for entry in entries} == set(tiny_release.files[version])
        for entry in entries:
            file = tiny_release.files[version][entry["url"].removeprefix(start)]
            expected = {"url": file.url, "version_id": file.version_id, "file_hash": file.file_hash}
            assert entry == expected
            assert len(file.file_hash) == 128


def test_the_folder_of_manifests_holds_nothing_else(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Another name there that looks like a manifest would keep AllenSDK from starting."""
    prefix = "visual-behavior-neuropixels/manifests/"
    listed = seaweed.client().list_objects_v2(Bucket=tiny_release.bucket, Prefix=prefix)["Contents"]
    names = {entry["Key"].removeprefix(prefix) for entry in listed}
    versions = ("0.1.0", "0.2.0", "0.4.0", "0.5.0")
    assert names == {f"visual-behavior-neuropixels_project_manifest_v{version}.json" for version in versions}


def test_only_units_change_from_0_1_to_0_2(tiny_release: DemoRelease) -> None:
    """As in the real dataset, 0.2.0 differs from 0.1.0 in units.csv only; all else keeps its version id."""
    kinds = kinds_of_change(tiny_release, "0.1.0", "0.2.0")
    assert kinds["changed"] == {"project_metadata/units.csv"}
    assert kinds["same"] == set(tiny_release.files["0.1.0"]) - kinds["changed"]


def test_the_move_to_a_folder_for_each_session(tiny_release: DemoRelease) -> None:
    """From 0.2.0 to 0.4.0 one session is only renamed, another also changed; LFP and behavior-only files are new."""
    first, second = table(tiny_release, "0.4.0", "ecephys_sessions")["ecephys_session_id"]
    kinds = kinds_of_change(tiny_release, "0.2.0", "0.4.0")
    assert kinds["renamed"] == {f"behavior_ecephys_sessions/{first}/ecephys_session_{first}.nwb"}
    assert f"behavior_ecephys_sessions/{second}/ecephys_session_{second}.nwb" in kinds["new"]
    assert {f"ecephys_sessions/ecephys_session_{session}.nwb" for session in (first, second)} == kinds["gone"]
    assert set(of_kind(tiny_release, "0.4.0", "_lfp.nwb$")) < kinds["new"]
    assert set(of_kind(tiny_release, "0.4.0", "^behavior_only_sessions/")) < kinds["new"]
    assert kinds["anew"] == {"project_metadata/channels.csv"}


def test_a_changed_file_may_keep_its_size(tiny_release: DemoRelease) -> None:
    """The second session's file of 0.4.0 is as long as before and holds other bytes."""
    session = table(tiny_release, "0.4.0", "ecephys_sessions")["ecephys_session_id"][1]
    old = tiny_release.files["0.2.0"][f"ecephys_sessions/ecephys_session_{session}.nwb"]
    new = tiny_release.files["0.4.0"][f"behavior_ecephys_sessions/{session}/ecephys_session_{session}.nwb"]
    assert old.size_bytes == new.size_bytes
    assert old.file_hash != new.file_hash


def test_every_kind_of_change_comes_with_0_5(tiny_release: DemoRelease) -> None:
    """From 0.4.0 to 0.5.0: LFP and a session change; files stay, are uploaded anew, go and come."""
    first, second = table(tiny_release, "0.5.0", "ecephys_sessions")["ecephys_session_id"]
    kinds = kinds_of_change(tiny_release, "0.4.0", "0.5.0")
    assert set(of_kind(tiny_release, "0.5.0", "_lfp.nwb$")) < kinds["changed"]
    assert f"behavior_ecephys_sessions/{first}/ecephys_session_{first}.nwb" in kinds["changed"]
    assert f"behavior_ecephys_sessions/{second}/ecephys_session_{second}.nwb" in kinds["same"]
    for kind in ("anew", "new", "gone"):
        assert len(kinds[kind]) == 1
        assert kinds[kind] < set(of_kind(tiny_release, "0.4.0", "^behav")) | set(
            of_kind(tiny_release, "0.5.0", "^behav")
        )


def test_what_a_version_no_longer_has_is_deleted_in_s3(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """Its key leads to nothing any more, and its version id still to the same bytes."""
    [path] = kinds_of_change(tiny_release, "0.4.0", "0.5.0")["gone"]
    file = tiny_release.files["0.4.0"][path]
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        fetch(seaweed, tiny_release, tiny_release.key(path))
    caught.value.close()
    assert fetch(seaweed, tiny_release, tiny_release.key(path), file.version_id) == file.source.read_bytes()


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.4.0", "0.5.0"])
def test_tables_have_the_columns_of_their_time(version: str, tiny_release: DemoRelease) -> None:
    """As many columns as the real tables of that version, ids first; file ids and quality came later."""
    columns = {stem: list(table(tiny_release, version, stem).columns) for stem in _STEMS}
    late, latest = version >= "0.4.0", version == "0.5.0"
    assert {stem: len(names) for stem, names in columns.items()} == {
        "units": 36 if latest else 35,
        "probes": 11 if late else 10,
        "channels": 12,
        "ecephys_sessions": 22,
        "behavior_sessions": 15 if late else 14,
    }
    assert ("quality" in columns["units"]) == latest
    assert ("file_id" in columns["probes"]) == ("file_id" in columns["behavior_sessions"]) == late
    first = ["unit_id", "ecephys_probe_id", "ecephys_channel_id", "ecephys_session_id", "behavior_session_id"]
    assert [names[0] for names in columns.values()] == first


def test_file_ids_lead_to_the_files(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """As AllenSDK does it: a row's file_id is a key of data_files, whose file bears the row's id or probe name."""
    for version in tiny_release.versions:
        data = {
            int(key): entry["url"] for key, entry in manifest(seaweed, tiny_release, version)["data_files"].items()
        }
        used = []
        for row in table(tiny_release, version, "ecephys_sessions").to_dict("records"):
            assert data[row["file_id"]].endswith(f"/ecephys_session_{row['ecephys_session_id']}.nwb")
            used.append(row["file_id"])
        if version < "0.4.0":
            assert sorted(used) == sorted(data)
            continue
        for row in table(tiny_release, version, "probes").to_dict("records"):
            assert row["has_lfp_data"] == (row["file_id"] != NO_FILE)
            if row["has_lfp_data"]:
                assert data[row["file_id"]].endswith(f"/{row['ecephys_session_id']}/probe_{row['name']}_lfp.nwb")
                used.append(row["file_id"])
        for row in table(tiny_release, version, "behavior_sessions").to_dict("records"):
            if row["file_id"] != NO_FILE:
                assert data[row["file_id"]].endswith(f"/behavior_session_{row['behavior_session_id']}.nwb")
                used.append(row["file_id"])
        assert sorted(used) == sorted(data)


def test_some_rows_have_no_file(tiny_release: DemoRelease) -> None:
    """A probe without LFP, the behavior of ecephys sessions, and a session of another version have file_id -999."""
    assert NO_FILE in set(table(tiny_release, "0.5.0", "probes")["file_id"])
    behavior = table(tiny_release, "0.5.0", "behavior_sessions")
    recorded = behavior["ecephys_session_id"].notna()
    assert set(behavior[recorded]["file_id"]) == {NO_FILE}
    assert (behavior[~recorded]["file_id"] == NO_FILE).sum() == 1


def test_ids_are_consistent_between_the_tables(tiny_release: DemoRelease) -> None:
    """Units refer to channels, these to probes, these to sessions; all ids are distinct, of 9 or 10 digits."""
    tables = {stem: table(tiny_release, "0.5.0", stem) for stem in _STEMS}
    sessions, probes, channels = tables["ecephys_sessions"], tables["probes"], tables["channels"]
    for name, owners in (("channel", channels), ("probe", probes), ("session", sessions)):
        assert set(tables["units"][f"ecephys_{name}_id"]) <= set(owners[f"ecephys_{name}_id"])
    units = tables["units"].merge(channels, on="ecephys_channel_id", suffixes=("", "_of_channel"))
    for name in ("ecephys_probe_id", "ecephys_session_id", "structure_acronym", "probe_vertical_position"):
        assert (units[name] == units[f"{name}_of_channel"]).all()
    assert set(sessions["behavior_session_id"]) < set(tables["behavior_sessions"]["behavior_session_id"])
    ids = pd.concat([tables[stem].iloc[:, 0] for stem in _STEMS])
    assert ids.is_unique
    assert ids.between(10**8, 10**10 - 1).all()


def test_counts_and_structures_are_those_of_the_rows(tiny_release: DemoRelease) -> None:
    """unit_count, channel_count, probe_count and structure_acronyms can be recomputed from the other tables."""
    tables = {stem: table(tiny_release, "0.5.0", stem) for stem in _STEMS}
    for stem, key in (("probes", "ecephys_probe_id"), ("ecephys_sessions", "ecephys_session_id")):
        for row in tables[stem].to_dict("records"):
            channels = tables["channels"][tables["channels"][key] == row[key]]
            assert row["channel_count"] == len(channels)
            assert row["unit_count"] == (tables["units"][key] == row[key]).sum()
            assert ast.literal_eval(row["structure_acronyms"]) == sorted(set(channels["structure_acronym"]))
    for row in tables["ecephys_sessions"].to_dict("records"):
        assert row["probe_count"] == (tables["probes"]["ecephys_session_id"] == row["ecephys_session_id"]).sum()
    counted = tables["units"]["ecephys_channel_id"].value_counts()
    for row in tables["channels"].to_dict("records"):
        assert row["unit_count"] == counted.get(row["ecephys_channel_id"], 0)


def test_some_sessions_are_abnormal(tiny_release: DemoRelease) -> None:
    """AllenSDK hides sessions with an abnormality by default: there is one, and there are others."""
    sessions = table(tiny_release, "0.5.0", "ecephys_sessions")
    abnormal = sessions["abnormal_histology"].notna() | sessions["abnormal_activity"].notna()
    assert abnormal.any()
    assert not abnormal.all()


def test_one_session_shows_novel_images(tmp_path: Path) -> None:
    """Of the demo's sessions two are Familiar and one is Novel, which AllenSDK does not hide; its file agrees."""
    cohort = make_cohort(0, replace(ReleaseScale.tiny(), ecephys_sessions=ReleaseScale().ecephys_sessions))
    sessions = records(cohort.ecephys_sessions)
    assert sorted(session["experience_level"] for session in sessions) == ["Familiar", "Familiar", "Novel"]
    [novel] = [session for session in sessions if session["experience_level"] == "Novel"]
    assert novel["prior_exposures_to_image_set"] == 0
    assert pd.isna([novel["abnormal_histology"], novel["abnormal_activity"]]).all()
    known = {"im083_r", "im111_r"}  # which both sets have
    for session in (sessions[0], novel):
        write_ecephys_session(tmp_path / "session.nwb", cohort, session, Processing())
        name = f"Natural_Images_Lum_Matched_set_ophys_{session['image_set']}_2019"
        assert f"images_{session['image_set']}_" in session["session_type"]
        with h5py.File(tmp_path / "session.nwb") as nwb:
            images = nwb[f"intervals/{name}_presentations/image_name"].asstr()[:]
            is_novel = nwb[f"intervals/{name}_presentations/is_image_novel"][:] == 1
            assert list(nwb["stimulus/templates"]) == [name]
        assert (is_novel == (~np.isin(images, list(known)) & (session is novel))).all()


def definitions(path: Path) -> dict[str, bytes]:
    """Return the definitions of types that an NWB file brings along, by their names and versions."""
    found: dict[str, bytes] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as nwb:
        nwb["specifications"].visititems(keep)
    return found


def test_nwb_files_are_valid(tiny_release: DemoRelease) -> None:
    """The validator of pynwb has nothing to say about any of them, by the definitions that each brings along."""
    first, *others = {file.source for _, path, file in all_files(tiny_release) if path.endswith(".nwb")}
    assert len(others) > 10
    # `pynwb.validate` reads a file's definitions anew, which takes most of its time: these are the same in all.
    assert all(definitions(other) == definitions(first) for other in others)
    namespaces, manager, _ = get_cached_namespaces_to_validate(str(first))
    assert "ndx-aibs-ecephys" in namespaces
    validators = [ValidatorMap(manager.namespace_catalog.get_namespace(name)) for name in namespaces]
    for source in (first, *others):
        with NWBHDF5IO(str(source), "r", manager=manager) as nwb:
            builder = nwb.read_builder()
            assert [validator.validate(builder) for validator in validators] == [[]] * len(validators)


def test_nwb_files_are_laid_out_like_the_real_ones(tiny_release: DemoRelease) -> None:
    """No dataset is chunked, compressed or resizable: each is one contiguous extent."""
    for path, file in of_kind(tiny_release, "0.5.0", "nwb$").items():
        found: list[str] = []

        def check(name: str, item: Any, found: list[str] = found) -> None:
            if isinstance(item, h5py.Dataset):
                found.append(name)
                assert (item.chunks, item.compression) == (None, None)

        with h5py.File(file.source) as nwb:
            nwb.visititems(check)
        assert len(found) > (200 if "/ecephys_session_" in path else 40)


def test_a_session_file_agrees_with_the_tables(tiny_release: DemoRelease) -> None:
    """Session id, date, mouse, units with their channels, and electrodes are those of the tables."""
    session = table(tiny_release, "0.5.0", "ecephys_sessions").to_dict("records")[0]
    [file] = of_kind(tiny_release, "0.5.0", f"ecephys_session_{session['ecephys_session_id']}.nwb").values()
    units = table(tiny_release, "0.5.0", "units").query(f"ecephys_session_id == {session['ecephys_session_id']}")
    channels = table(tiny_release, "0.5.0", "channels").query(
        f"ecephys_session_id == {session['ecephys_session_id']}"
    )
    with NWBHDF5IO(str(file.source), "r") as io_:
        nwb = io_.read()
        assert nwb.session_id == str(session["ecephys_session_id"])
        assert nwb.session_start_time == pd.Timestamp(session["date_of_acquisition"])
        assert nwb.subject.subject_id == str(session["mouse_id"])
        assert list(nwb.units.id[:]) == list(units["unit_id"])
        assert list(nwb.units["peak_channel_id"][:]) == list(units["ecephys_channel_id"])
        assert list(nwb.electrodes.id[:]) == list(channels["ecephys_channel_id"])
        assert {group.name for group in nwb.electrodes["group"][:]} == {"probeA", "probeB"}


def test_a_session_file_holds_what_the_real_ones_hold(tiny_release: DemoRelease) -> None:
    """The groups that analyses open are there, with ragged spikes and waveforms of 82 samples on every channel."""
    session = table(tiny_release, "0.5.0", "ecephys_sessions")["ecephys_session_id"][0]
    [file] = of_kind(tiny_release, "0.5.0", f"ecephys_session_{session}.nwb").values()
    with NWBHDF5IO(str(file.source), "r") as io_:
        nwb = io_.read()
        assert {"EyeTracking", "v_in", "v_sig"} <= set(nwb.acquisition)
        assert {"running", "licking", "rewards", "stimulus", "optotagging"} <= set(nwb.processing)
        assert len(nwb.trials.columns) >= 20
        assert sum(name.endswith("_presentations") for name in nwb.intervals) == 4
        [images] = nwb.stimulus_template.values()
        assert images.data.shape == images.unwarped.shape == (8, 12, 16)
        assert nwb.acquisition["EyeTracking"].pupil_tracking.area.shape == (60 * 30,)
        spikes = nwb.units["spike_times"][0]
        assert (np.diff(spikes) >= 0).all()
        assert len(spikes) == len(nwb.units["spike_amplitudes"][0]) != len(nwb.units["spike_times"][1])
        assert nwb.units["waveform_mean"][0].shape == (82, 24)


def test_an_lfp_file_agrees_with_the_tables(tiny_release: DemoRelease) -> None:
    """It holds its probe's series where AllenSDK looks for it, on channels of that probe, at the table's rate."""
    probe = table(tiny_release, "0.5.0", "probes").to_dict("records")[1]
    [file] = of_kind(tiny_release, "0.5.0", f"{probe['ecephys_session_id']}/probe_{probe['name']}_lfp").values()
    channels = table(tiny_release, "0.5.0", "channels").query(f"ecephys_probe_id == {probe['ecephys_probe_id']}")
    with NWBHDF5IO(str(file.source), "r") as io_:
        nwb = io_.read()
        lfp = nwb.acquisition[f"probe_{probe['ecephys_probe_id']}_lfp"]
        series = lfp.electrical_series[f"probe_{probe['ecephys_probe_id']}_lfp_data"]
        assert series.data.dtype == np.float32
        assert series.data.shape == (len(series.timestamps), 6)
        assert 1 / np.diff(series.timestamps[:]).mean() == pytest.approx(probe["lfp_sampling_rate"])
        assert set(series.electrodes.table.id[:]) < set(channels["ecephys_channel_id"])
        assert nwb.session_id == str(probe["ecephys_session_id"])


def test_lfp_is_only_scaled_anew_in_0_5(tiny_release: DemoRelease) -> None:
    """What 0.5.0 changes in the LFP is a factor."""
    path = next(iter(of_kind(tiny_release, "0.5.0", "_lfp.nwb$")))
    values = []
    for version in ("0.4.0", "0.5.0"):
        with h5py.File(tiny_release.files[version][path].source) as nwb:
            [lfp] = [group for name, group in nwb["acquisition"].items() if name.endswith("_lfp")]
            [series] = lfp.values()
            values.append(series["data"][:])
    np.testing.assert_allclose(values[1] * np.float32(4.69e-6 / 1.95e-7), values[0], rtol=1e-5)


def contents(release: LocalRelease) -> dict[str, bytes]:
    """Return the bytes of all files that were made."""
    files = [path for path in release.directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(release.directory)): path.read_bytes() for path in files}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two releases of one seed are equal, file for file; one of another seed has no file in common with them."""
    scale = replace(ReleaseScale.tiny(), ecephys_sessions=1, behavior_sessions=1)
    seeds = {"first": 7, "second": 7, "other": 8}
    first, second, other = (contents(make_release(tmp_path / name, seeds[name], scale=scale)) for name in seeds)
    assert first == second
    assert not set(first.values()) & set(other.values())


def test_progress_is_reported_file_by_file(tmp_path: Path) -> None:
    """The maker of a release gets a report of each NWB file once, by its path in the directory."""
    reports: list[str] = []
    scale = replace(ReleaseScale.tiny(), ecephys_sessions=1, behavior_sessions=0)
    release = make_release(tmp_path, scale=scale, report=reports.append)
    assert sorted(reports) == sorted(f"making {name}" for name in contents(release) if name.endswith(".nwb"))


def test_a_release_may_have_no_behavior_only_sessions(tmp_path: Path) -> None:
    """One session and nothing else is a release, as a test of a large file wants it."""
    release = make_release(
        tmp_path, scale=replace(ReleaseScale.tiny(), ecephys_sessions=1, probes=1, behavior_sessions=0)
    )
    assert [len(version.data) for version in release.versions] == [1, 1, 2, 2]
    assert len(pd.read_csv(io.BytesIO((tmp_path / "0.5.0/project_metadata/behavior_sessions.csv").read_bytes()))) == 1


def test_files_of_the_default_scale_have_the_promised_sizes(tmp_path: Path) -> None:
    """20 to 40 MB for a session, 5 to 15 for LFP, 2 to 5 for behavior only; and 384 channels a probe."""
    cohort = make_cohort(0, ReleaseScale())
    session = records(cohort.ecephys_sessions)[0]
    write_ecephys_session(tmp_path / "session.nwb", cohort, session, Processing())
    write_lfp(tmp_path / "lfp.nwb", cohort, session, records(cohort.probes)[0], 1e-6)
    write_behavior_session(tmp_path / "behavior.nwb", cohort, records(cohort.behavior_only())[0])
    megabytes = {path.stem: path.stat().st_size / 1e6 for path in tmp_path.iterdir()}
    assert 20 < megabytes["session"] < 40
    assert 5 < megabytes["lfp"] < 15
    assert 2 < megabytes["behavior"] < 5
    assert set(cohort.probes["channel_count"]) == {384}
