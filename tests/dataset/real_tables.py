"""Tables as large as the real ones: the rows, columns and widths of release 0.5.0, for its list of files.

All values are drawn. The ids of sessions, and which files there are, come from the names of the files.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tests.dataset.real_list import BUCKET, PROJECT, RELEASES, real_file_name, real_files, real_manifest_json
from tests.fakes.store import Data, MemoryStore, Pattern

CHANNELS: Final = 384  # of a probe
PROBES_WITHOUT_LFP: Final = 36
UNITS: Final = 319_013
NO_FILE: Final = -999
AREAS: Final = (
    *("VISp", "VISl", "VISal", "VISam", "VISpm", "VISrl", "VISmmp", "CA1", "CA3", "DG", "SUB", "ProS", "HPF", "LGd"),
    *("LGv", "LP", "LD", "TH", "PO", "POL", "VPM", "VPL", "MGd", "MGm", "SGN", "Eth", "MB", "APN", "NOT", "MRN"),
    *("SCig", "SCiw", "SCop", "SCsg", "SCzo", "PPT", "OP", "RPF", "ZI", "RT", "IGL", "IntG", "PIL", "root"),
)
_GENOTYPES: Final = (
    "wt/wt",
    "Sst-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt",
    "Vip-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt",
)
_HEADERS: Final = {
    "units": "unit_id,ecephys_channel_id,ecephys_probe_id,ecephys_session_id,amplitude_cutoff,"
    "anterior_posterior_ccf_coordinate,dorsal_ventral_ccf_coordinate,left_right_ccf_coordinate,cumulative_drift,"
    "d_prime,structure_acronym,structure_id,firing_rate,isi_violations,isolation_distance,l_ratio,local_index,"
    "max_drift,nn_hit_rate,nn_miss_rate,presence_ratio,probe_horizontal_position,probe_vertical_position,"
    "silhouette_score,snr,quality,valid_data,amplitude,waveform_duration,waveform_halfwidth,PT_ratio,"
    "recovery_slope,repolarization_slope,spread,velocity_above,velocity_below",
    "probes": "ecephys_probe_id,ecephys_session_id,name,sampling_rate,lfp_sampling_rate,phase,has_lfp_data,"
    "unit_count,channel_count,structure_acronyms,file_id",
    "channels": "ecephys_channel_id,ecephys_probe_id,ecephys_session_id,probe_channel_number,"
    "probe_vertical_position,probe_horizontal_position,anterior_posterior_ccf_coordinate,"
    "dorsal_ventral_ccf_coordinate,left_right_ccf_coordinate,structure_acronym,unit_count,valid_data",
    "ecephys_sessions": "ecephys_session_id,behavior_session_id,date_of_acquisition,equipment_name,session_type,"
    "mouse_id,genotype,sex,project_code,age_in_days,unit_count,probe_count,channel_count,structure_acronyms,"
    "image_set,prior_exposures_to_image_set,session_number,experience_level,prior_exposures_to_omissions,file_id,"
    "abnormal_histology,abnormal_activity",
    "behavior_sessions": "behavior_session_id,equipment_name,genotype,mouse_id,sex,age_in_days,session_number,"
    "prior_exposures_to_session_type,prior_exposures_to_image_set,prior_exposures_to_omissions,ecephys_session_id,"
    "date_of_acquisition,session_type,image_set,file_id",
}
_SIZES: Final = {"ecephys_session_": 2_900_000_000, "_lfp.nwb": 4_600_000_000, "behavior_session_": 180_000_000}
_QUALITY: Final = ",quality"  # of units, from 0.5.0 on


@dataclass(frozen=True, slots=True)
class _Probe:
    """A probe, its place among all of them, and the areas that it goes through from its tip on."""

    number: int
    probe_id: int
    session_id: int
    name: str
    file_id: int
    areas: Sequence[str]

    def area_of(self, channel: int) -> str:
        return self.areas[channel * len(self.areas) // CHANNELS]


@functools.cache
def real_tables(*, has_quality: bool, seed: int = 0) -> dict[str, bytes]:
    """The five tables by name, as CSV: 161 MB. Without `has_quality` they are those before 0.5.0.

    Both differ in units alone: in a column, and in the values of one row in three.
    """
    probes = _probes(seed)
    lines = {
        "units": _units(probes, seed, has_quality=has_quality),
        "probes": (_probe_line(one) for one in probes),
        "channels": _channels(probes, seed),
        "ecephys_sessions": _sessions(probes, seed),
        "behavior_sessions": _behavior(seed),
    }
    headers = _HEADERS | ({} if has_quality else {"units": _HEADERS["units"].replace(_QUALITY, "")})
    return {name: "\n".join([headers[name], *found, ""]).encode() for name, found in lines.items()}


@functools.cache
def _file_ids(pattern: str) -> tuple[tuple[tuple[str, ...], int], ...]:
    """What a pattern finds in the names of data files, with the numbers that tables have for them."""
    found = ((re.search(pattern, url), number) for number, (url, _) in enumerate(real_files()[5:]))
    return tuple((match.groups(), number) for match, number in found if match is not None)


def _probes(seed: int) -> list[_Probe]:
    random = np.random.default_rng([seed, 1])
    files = _file_ids(r"/(\d+)/probe_(probe[A-F])_lfp\.nwb")
    places = [(int(session), name, number) for (session, name), number in files]
    sessions = sorted({session for session, _, _ in places})
    places += [(sessions[index], "probeG", NO_FILE) for index in range(PROBES_WITHOUT_LFP)]
    chosen = [random.choice(AREAS, size=6, replace=False).tolist() for _ in places]
    return [
        _Probe(number, 1_040_000_000 + 17 * number, session, name, file_id, areas)
        for number, ((session, name, file_id), areas) in enumerate(zip(places, chosen, strict=True))
    ]


def _listed(names: Sequence[str]) -> str:
    """A list in a cell, as Python writes it."""
    return f'"{sorted(set(names))}"'


def _probe_line(one: _Probe) -> str:
    has_lfp, units = one.file_id != NO_FILE, UNITS // (len(_file_ids("lfp")) + PROBES_WITHOUT_LFP)
    start = f"{one.probe_id},{one.session_id},{one.name},29999.9{one.number},1249.9{one.number},1.0"
    return f"{start},{has_lfp},{units},{CHANNELS},{_listed(one.areas)},{one.file_id}"


def _channels(probes: Sequence[_Probe], seed: int) -> Iterator[str]:
    tails = [
        f"{20 * (row // 2 + 1)},{row % 4},{3000 + row}.0,{9000 - 8 * row}.0,{7000 + row}.0" for row in range(384)
    ]
    for one in probes:
        for row in range(CHANNELS):
            ids = f"{_channel_id(one, row)},{one.probe_id},{one.session_id},{row}"
            yield f"{ids},{tails[row]},{one.area_of(row)},{(row + seed) % 3},True"


def _channel_id(probe: _Probe, row: int) -> int:
    return 850_000_000 + 1000 * probe.number + 2 * row


def _units(probes: Sequence[_Probe], seed: int, *, has_quality: bool) -> Iterator[str]:
    first, middle, last = _cells(seed, 1, 6, digits=4), _cells(seed, 2, 13), _cells(seed, 3, 9, digits=4)
    others = middle if has_quality else _cells(seed, 4, 13)
    for number in range(UNITS):
        one, row = probes[number % len(probes)], (7 * number) % CHANNELS
        area, at = one.area_of(row), number % len(first)
        ids = f"{1_061_000_000 + 2 * number},{_channel_id(one, row)},{one.probe_id},{one.session_id}"
        quality = ("good," if number % 5 else "noise,") if has_quality else ""
        changing = (others if number % 3 == 0 else middle)[at]
        yield f"{ids},{first[at]},{area},{AREAS.index(area)},{changing},{quality}True,{last[at]}"


@functools.cache
def _cells(seed: int, part: int, columns: int, digits: int = 17) -> list[str]:
    """Some thousand lines of so many numbers, with so many of their digits."""
    drawn = np.random.default_rng([seed, 2, part]).random((5003, columns))
    return [",".join(map(repr, row)) for row in (100 * drawn).round(digits).tolist()]


def _sessions(probes: Sequence[_Probe], seed: int) -> Iterator[str]:
    own: dict[int, list[_Probe]] = {}
    for one in probes:
        own.setdefault(one.session_id, []).append(one)
    for index, ((text,), file_id) in enumerate(_file_ids(r"ecephys_session_(\d+)\.nwb")):
        mine = own.get(int(text), [])
        is_novel = (index + seed) % 2 == 1
        areas = _listed([area for one in mine for area in one.areas])
        units = UNITS // len(probes) * len(mine)
        yield (
            f"{text},{int(text) + 1},2020-08-{1 + index % 28:02} 14:44:56.{index:06}+00:00,NP.{index % 2},"
            f"EPHYS_1_images_{'GH'[is_novel]}_5uL_reward,{524_000 + index // 2},{_GENOTYPES[index % 3]},"
            f"{'MF'[index // 2 % 2]},NeuropixelVisualBehavior,{120 + index % 60},{units},{len(mine)},"
            f"{CHANNELS * len(mine)},{areas},{'GH'[is_novel]},{0.0 if is_novel else 32.0},{20 + index % 30},"
            f"{'Novel' if is_novel else 'Familiar'},{index % 4},{file_id},,"
        )


def _behavior(seed: int) -> Iterator[str]:
    only = [(int(text), "", file_id) for (text,), file_id in _file_ids(r"behavior_session_(\d+)\.nwb")]
    recorded = [(int(text) + 1, text, NO_FILE) for (text,), _ in _file_ids(r"ecephys_session_(\d+)\.nwb")]
    for index, (own, session, file_id) in enumerate([*only, *recorded]):
        yield (
            f"{own},BEH.{'BDFG'[index % 4]}-Box{index % 6 + 1},{_GENOTYPES[index % 3]},{524_000 + index // 40},"
            f"{'MF'[index % 2]},{60 + (index + seed) % 120},{index % 50},{index % 6},{index % 40}.0,0,"
            f"{f'{session}.0' if session else ''},2020-03-{1 + index % 28:02} 10:12:13.{index:06}+00:00,"
            f"TRAINING_{index % 6}_images_G_training,{'GH'[index % 2]},{file_id}"
        )


def real_store(files: Mapping[str, Data] | None = None, *, seed: int = 0) -> MemoryStore:
    """The five versions of the real list, with these tables: the newest one's units have a quality.

    `files`: genuine ones of 0.5.0, by their paths. Of the others, any bytes of about the right length are served.
    Hashes are right for what is given as bytes.
    """
    store, known = MemoryStore(BUCKET), set[tuple[str, str]]()
    for version in RELEASES:
        document = json.loads(real_manifest_json(version))
        tables = real_tables(has_quality=version == RELEASES[-1], seed=seed)
        genuine: dict[str, Data] = {f"project_metadata/{name}.csv": data for name, data in tables.items()}
        genuine |= (files or {}) if version == RELEASES[-1] else {}
        for entry in [*document["metadata_files"].values(), *document["data_files"].values()]:
            key = entry["url"].partition(".com/")[2]
            data = genuine.get(key.removeprefix(f"{PROJECT}/")) or _stand_in(key, entry["file_hash"])
            if isinstance(data, bytes):
                entry["file_hash"] = _hash_of(data)
                entry["version_id"] = entry["file_hash"][:32]
            if (key, entry["version_id"]) not in known:
                known.add((key, entry["version_id"]))
                store.put(key, data, version_id=entry["version_id"])
        store.put(f"{PROJECT}/manifests/{real_file_name(version)}", json.dumps(document).encode())
    return store


def _stand_in(key: str, file_hash: str) -> Pattern:
    """About as long as files of its kind are."""
    size_bytes = next((size for part, size in _SIZES.items() if part in key), 1 << 20)
    return Pattern(size_bytes + int(file_hash[:6], 16))


@functools.cache
def _hash_of(data: bytes) -> str:
    return hashlib.blake2b(data).hexdigest()
