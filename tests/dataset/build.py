"""Small manifests for tests, each from a table of paths and what the files hold."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from vbnfs.dataset.browsing import Folders
from vbnfs.dataset.contents import AttributesOf, NamedContent, contents_of, in_order_of_publication
from vbnfs.dataset.manifest import DatasetVersion, Manifest, Origin, ReleaseNames, parse_manifest
from vbnfs.dataset.tree import Tree
from vbnfs.dataset.tree_builder import build_tree
from vbnfs.objects import ObjectVersion

BUCKET: Final = "data-bucket"
PROJECT: Final = "project"
ORIGIN: Final = Origin(BUCKET)

Files = Mapping[str, str]  # path in the release -> its content, which the hash and the version id are made of


def url_of(path: str) -> str:
    return f"https://{BUCKET}.s3.us-west-2.amazonaws.com/{PROJECT}/{path}"


def hash_of(content: str) -> str:
    return hashlib.blake2b(content.encode()).hexdigest()


def version_id_of(content: str) -> str:
    return hash_of("version id of " + content)[:32]


def entry(path: str, content: str = "content") -> dict[str, Any]:
    return {"url": url_of(path), "version_id": version_id_of(content), "file_hash": hash_of(content)}


def file_name(version: str) -> str:
    return f"{PROJECT}_project_manifest_v{version}.json"


def document(files: Files) -> dict[str, Any]:
    """The manifest as JSON values: tables (*.csv) are metadata, the others data."""
    tables = {path: entry(path, content) for path, content in files.items() if path.endswith(".csv")}
    others = [entry(path, content) for path, content in files.items() if not path.endswith(".csv")]
    return {
        "project_name": PROJECT,
        "metadata_files": tables,
        "data_files": {str(file_id): other for file_id, other in enumerate(others)},
    }


def with_entry(changed: Any) -> bytes:
    """A manifest whose data entry "1" is `changed`, beside a good one."""
    table = document({"good/file.nwb": "good"})
    table["data_files"]["1"] = changed
    return json.dumps(table).encode()


def with_url(url: Any) -> bytes:
    return with_entry(entry("x/y.nwb") | {"url": url})


def manifest_json(files: Files) -> bytes:
    return json.dumps(document(files)).encode()


def parse(data: bytes, *, version: str = "1.0.0", modified_ns: int = 0, origin: Origin = ORIGIN) -> Manifest:
    return parse_manifest(data, file_name=file_name(version), modified_ns=modified_ns, origin=origin)


def manifest(version: str, files: Files, *, modified_ns: int = 0, names: ReleaseNames | None = None) -> Manifest:
    """A parsed manifest; with `names`, one that AllenSDK can load, as the bucket has it."""
    if names is None:
        return parse(manifest_json(files), version=version, modified_ns=modified_ns)
    further = {
        "manifest_version": names.manifest_version,
        "data_pipeline": [],
        "metadata_file_id_column_name": "file_id",
    }
    data = json.dumps(document(files) | {"project_name": names.project_name} | further).encode()
    source = ObjectVersion(f"{PROJECT}/manifests/{file_name(version)}", None)
    return replace(parse(data, version=version, modified_ns=modified_ns), source=source)


def tree_of(
    manifests: Iterable[Manifest],
    *,
    default: str,
    bucket: str = BUCKET,
    readme: bytes = b"read me",
    attributes: AttributesOf = lambda version: None,
    browsed: Folders | None = None,
) -> Tree:
    """The tree of manifests, in the order in which they were published."""
    contents = contents_of(in_order_of_publication(manifests), bucket=bucket, attributes=attributes)
    version = DatasetVersion(default)
    return build_tree(manifests, contents=contents, default_version=version, readme=readme, browsed=browsed)


def named(versions: Iterable[ObjectVersion]) -> list[NamedContent]:
    """A content for each object version, that has no other source."""
    return [NamedContent(str(version), (version,)) for version in versions]
