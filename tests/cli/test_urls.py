"""`vbnfs urls`: where the files of a dataset version are."""

import hashlib
import json
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests.fakes.dataset import BUCKET, serve
from tests.fixtures_mount import run_vbnfs
from vbnfs.cli.urls import fetchable
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease


def fetch(url: str) -> bytes:
    """What a URL gives as it stands."""
    with urlopen(url) as reply:
        data: bytes = reply.read()
        return data


def test_urls_of_a_genuine_release(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """A line for each file, in the manifest's order, the newest version's by default; each gives the file's bytes.

    The URLs are those of the server that --endpoint-url names.
    """
    done = run_vbnfs("urls", "--endpoint-url", seaweed.endpoint_url)
    assert (done.returncode, done.stderr) == (0, "")
    files = tiny_release.files[tiny_release.versions[-1]]
    key = tiny_release.manifest_key(tiny_release.versions[-1])
    manifest = json.loads(seaweed.client().get_object(Bucket=BUCKET, Key=key)["Body"].read())
    entries = [*manifest["metadata_files"].values(), *manifest["data_files"].values()]
    assert done.stdout.splitlines() == [
        f"{seaweed.endpoint_url}/{BUCKET}{urlsplit(entry['url']).path}?versionId={entry['version_id']}"
        for entry in entries
    ]
    hashes = {hashlib.blake2b(fetch(url)).hexdigest() for url in done.stdout.splitlines()}
    assert hashes == {file.file_hash for file in files.values()}


def test_urls_of_an_older_version_as_json(seaweed: SeaweedServer, tiny_release: DemoRelease) -> None:
    """--dataset-version chooses; --json adds version id, hash, path and size."""
    done = run_vbnfs("urls", "--json", "--dataset-version", "v0.1.0", "--endpoint-url", seaweed.endpoint_url)
    files = tiny_release.files["0.1.0"]
    rows = json.loads(done.stdout)
    assert {row["path"] for row in rows} == files.keys()
    for row in rows:
        file = files[row["path"]]
        assert row == {
            "path": row["path"],
            "url": f"{seaweed.endpoint_url}/{BUCKET}/{tiny_release.key(row['path'])}?versionId={file.version_id}",
            "version_id": file.version_id,
            "file_hash": file.file_hash,
            "size_bytes": file.size_bytes,
        }


def test_offline_is_a_warning_unless_it_was_asked_for() -> None:
    """What is kept is listed without network, with a warning; --offline asks nobody, and is no news."""
    with serve({"0.1.0": {"a.nwb": b"the one"}}) as server:
        endpoint_url = server.endpoint_url
        url = run_vbnfs("urls", "--endpoint-url", endpoint_url).stdout
        connections = server.connections
        offline = run_vbnfs("urls", "--offline", "--endpoint-url", endpoint_url)
        assert server.connections == connections
    assert (offline.returncode, offline.stdout, offline.stderr) == (0, url, "")
    gone = run_vbnfs("urls", "--endpoint-url", endpoint_url)
    assert (gone.returncode, gone.stdout, gone.stderr.count("cannot be reached")) == (0, url, 1)


def test_names_that_need_encoding() -> None:
    """A key with blanks, '%' and other signs is encoded, so that its URL gives the file that the mount shows."""
    with serve({"0.1.0": {"a b/50%25+é&.nwb": b"the one"}}) as server:
        [url] = run_vbnfs("urls", "--endpoint-url", server.endpoint_url).stdout.splitlines()
        assert url.isascii()
        assert " " not in url
        assert fetch(url) == b"the one"
        unknown = run_vbnfs("urls", "--dataset-version", "9.9.9", "--endpoint-url", server.endpoint_url)
    assert unknown.returncode == 1
    assert "no dataset version 9.9.9; there are: 0.1.0" in unknown.stderr


@pytest.mark.parametrize(
    ("url", "version_id", "wanted"),
    [
        ("https://b.s3.us-west-2.amazonaws.com/p/a/b_1.nwb", "K.aZ_6", "/p/a/b_1.nwb?versionId=K.aZ_6"),
        ("https://b.s3.us-west-2.amazonaws.com/p/~a-b", "a+b/c=&?", "/p/~a-b?versionId=a%2Bb%2Fc%3D%26%3F"),
    ],
)
def test_a_plain_url_stays_as_it_is(url: str, version_id: str, wanted: str) -> None:
    """A URL is left alone where it can be; of a version id all that means something in a query is encoded."""
    assert fetchable(url, version_id) == f"https://b.s3.us-west-2.amazonaws.com{wanted}"
