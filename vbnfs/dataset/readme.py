"""The README.txt at the top of a mount (pure). The same text on every host."""

from collections.abc import Iterator, Sequence

from vbnfs.dataset.allensdk import ALLENSDK, release_folders
from vbnfs.dataset.browsing import BY, table_of
from vbnfs.dataset.manifest import DatasetVersion, Manifest
from vbnfs.dataset.tree_builder import flat_names

_HINTS = {
    "project_metadata": "the tables (CSV): begin here",
    "ecephys_sessions": "every recording session under one flat name",
}

_TEXT = """\
{project}
{underline}

This is a read-only view of the dataset {project!r} in the S3 bucket
{bucket!r}. Files look local; what is read of them is fetched
once and kept in a cache on disk.

Dataset versions ({count}):

{versions}

Where to look next:

{places}

A file that is the same in several versions is one file (see ls -i), and is
fetched once. The attributes of a file name its origin:

  getfattr -d FILE                user.vbnfs.url, version_id, file_hash, ...

du shows how much of a file is cached, ls -l its full size.
'vbnfs status' shows this mount, 'vbnfs versions' the dataset's versions.
{allensdk}"""

_FOR_ALLENSDK = """
AllenSDK begins with the version that any process of yours loaded last. For
processes with versions of their own call load_manifest in each of them, or
use allensdk/static/v<version> with use_static_cache=True.
"""


def readme(manifests: Sequence[Manifest], *, default: DatasetVersion, bucket: str, project: str) -> bytes:
    """The text for a mount of `manifests`, oldest first."""
    rows = [
        f"  manifests/{manifest.dataset_version.folder:<12} {len(manifest.files):>7,} files"
        f"{'   <- shown at the top' if manifest.dataset_version == default else ''}"
        for manifest in manifests
    ]
    return _TEXT.format(
        places="\n".join(f"  {place:<31} {hint}" for place, hint in _places(manifests, default)),
        project=project,
        underline="=" * len(project),
        bucket=bucket,
        count=len(manifests),
        versions="\n".join(rows),
        allensdk=_FOR_ALLENSDK if release_folders(manifests) else "",
    ).encode()


def _places(manifests: Sequence[Manifest], default: DatasetVersion) -> Iterator[tuple[str, str]]:
    """Folders that this release has, with a hint of what is in them."""
    manifest = next(manifest for manifest in manifests if manifest.dataset_version == default)
    files = manifest.files
    folders = {file.path[0] for file in files if len(file.path) > 1} | {path[0] for path, _ in flat_names(files)}
    for folder, hint in _HINTS.items():
        if folder in folders:
            yield f"{folder}/", hint
    if table_of(manifest) is not None:
        yield f"{BY}/", "sessions by mouse, area, genotype, experience, ..."
    yield f"manifests/{default.folder}/", f"all of version {default}; others beside it"
    yield "manifests/latest", "a link to the version that is shown at the top"
    if release_folders(manifests):
        yield f"{ALLENSDK}/", "all versions, as a cache_dir for AllenSDK"
