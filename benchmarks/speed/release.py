"""The real release's list as an origin has it: 4,298 names with sizes, and a manifest. Their bytes are a hole."""

import json
import os
from pathlib import Path
from typing import Final

from benchmarks.speed.files import Files, Stored, stored
from tests.dataset.real_list import PROJECT, real_file_name, real_manifest_json

NAME: Final = "release"
_VERSION: Final = "0.5.0"
_MODIFIED_SECONDS: Final = 1_700_000_000


def make_release(directory: Path) -> Files:
    """The manifest, and one sparse file for all the rest, in a folder of their own below `directory`."""
    place = directory / f"files-{NAME}"
    place.mkdir(parents=True, exist_ok=True)
    hole, manifest = place / "hole", place / real_file_name(_VERSION)
    hole.touch()
    manifest.write_bytes(real_manifest_json(_VERSION))
    document = json.loads(manifest.read_bytes())
    entries = [*document["metadata_files"].values(), *document["data_files"].values()]
    objects = [_object(entry, hole) for entry in entries]
    os.truncate(hole, max(one.size_bytes for one in objects))
    return Files(place, (*objects, stored(f"{PROJECT}/manifests/{manifest.name}", manifest)))


def _object(entry: dict[str, str], hole: Path) -> Stored:
    """Its size is drawn, from the hash that is made up (pure)."""
    key = entry["url"].partition(".com/")[2]
    return Stored(key, hole, int(entry["file_hash"][:7], 16), entry["version_id"], _MODIFIED_SECONDS)
