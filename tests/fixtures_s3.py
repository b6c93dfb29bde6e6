"""A running S3 server and a small release in it, for every test that wants a real bucket: a pytest plugin."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from vbnfs.demo.release import make_release
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import BUCKET, DemoRelease, upload


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A running server; tests that share it make buckets of their own."""
    with SeaweedServer(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_release(seaweed: SeaweedServer, tmp_path_factory: pytest.TempPathFactory) -> DemoRelease:
    """A tiny release in the bucket of the real name on `seaweed`; no test changes that bucket."""
    release = make_release(tmp_path_factory.mktemp("release"), scale=ReleaseScale.tiny())
    seaweed.make_bucket(BUCKET)
    return upload(release, seaweed.client())


@pytest.fixture(scope="session")
def three_sessions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, bytes]]:
    """The files of the demo's last two versions, small ones: three sessions, one Novel, of an Sst mouse."""
    scale = replace(ReleaseScale.tiny(), ecephys_sessions=3, behavior_sessions=0, probes=4)
    release = make_release(tmp_path_factory.mktemp("three"), scale=scale)
    return {
        one.version: {path: one.sources[path].read_bytes() for path in (*one.metadata.values(), *one.data.values())}
        for one in release.versions[-2:]
    }
