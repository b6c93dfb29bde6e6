"""What the documents have one type is typed: each line of vbnfs in their blocks of code, on a real release."""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.code_blocks import SESSION_ID, blocks_of, reader, run
from tests.fixtures_mount import Mount, Mounts
from vbnfs.demo.release import LocalRelease, make_release
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import BUCKET, upload
from vbnfs.host.mountinfo import find_mount

pytestmark = pytest.mark.slow

DOCUMENTS = (
    *("README.md", "docs/bandwidth.md", "docs/digests.md", "docs/structure-index.md", "docs/mounting.md"),
    "docs/outline.md",
    *("docs/s3-replies.md", "docs/settings.md", "docs/sharing-data.md", "docs/versions.md", "docs/watching.md"),
    *("docs/working-sets.md", "docs/cache.md", "docs/administration.md"),  # the last two delete what is cached
)
# What is not typed here, and where it is.
NOT_HERE = {
    r"\bu?n?install": "changes the machine: tests/scenarios/system does it in a machine of its own",
    r"https?://": "a server of another network: tests/scenarios/test_structure_index.py has one of its own",
    r"/dev/fd/3": "needs a program that has mounted: tests/scenarios/system/test_handed_over.py",
    r"--dataset visual-behavior-ophys": "another release: tests/scenarios/allensdk/test_ophys.py",
    r"--metrics-": "a fixed port, and a folder of the system's: tests/scenarios/test_metrics.py has others",
    r"vbnfs top": "goes on until it is ended: tests/cli/test_top.py",
    r"umount --all": "takes away what is not this test's: tests/cli does it with mounts of its own",
    r"vbnfs (demo|doctor)": "has tests of its own",
}
IN_THE_SHELL = re.compile(r"^(?:\$ )?(?:sudo )?(vbnfs .*)$", re.MULTILINE)
EXAMPLE = "1044414982"  # a session of the demo's release, which some documents write
PLACE = re.compile(r"(?<![\w~.])/(data|lab|media|mnt|shared|srv)/")
# As many sessions, probes and units as the demo's release has, of which the documents speak; with little in each.
SCALE = replace(ReleaseScale.tiny(), ecephys_sessions=3, probes=3, units_per_session=44, channels_per_probe=384)


def lines_of(document: str) -> list[str]:
    """The lines of vbnfs in a document's blocks of code."""
    shell = [block.code for block in blocks_of(document) if block.language in {"", "sh"}]
    return [line for code in shell for line in IN_THE_SHELL.findall(code.replace("\\\n", ""))]


def is_typed(line: str) -> bool:
    return not any(re.search(pattern, line) for pattern in NOT_HERE)


@dataclass
class Machine:
    """A user's home folder with a mount `vbn`, and folders that bear the names of the documents' places."""

    home: Path
    env: Mapping[str, str]
    session_id: int

    def type(self, line: str) -> None:
        """Type a line; it must succeed. Mounting finds nothing mounted, and all else a mount."""
        line = PLACE.sub(rf"{self.home.parent}/\1/", line.replace(SESSION_ID, str(self.session_id)))
        line = line.replace(EXAMPLE, str(self.session_id))
        words = line.split("#")[0].split()
        mountpoint = self.home / "vbn"
        if words[1] in {"mount", "umount"}:
            mountpoint = Path(
                next(word for word in words[2:] if word.endswith(("/vbn", "/vbo"))).replace("~", str(self.home))
            )
        if words[1] == "mount":
            self.umount(mountpoint)
        elif find_mount(mountpoint) is None:
            self._run("vbnfs", "mount", str(mountpoint))
        self._run("sh", "-euc", line)

    def umount(self, mountpoint: Path) -> None:
        if find_mount(mountpoint) is not None:
            self._run("vbnfs", "umount", str(mountpoint))

    def _run(self, *command: str) -> None:
        run(*command, folder=self.home, env=self.env)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalRelease:
    """A release in which the documents' queries find something."""
    return make_release(tmp_path_factory.mktemp("release"), scale=SCALE)


@pytest.fixture(scope="module")
def endpoint_url(release: LocalRelease, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of it."""
    with SeaweedServer(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket(BUCKET)
        upload(release, server.client())
        yield server.endpoint_url


@pytest.fixture(scope="module")
def machine(release: LocalRelease, endpoint_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with what the documents speak of: files of AllenSDK, one other HDF5 file, digests, an index."""
    place = tmp_path_factory.mktemp("machine")
    home, factory = place / "home", Mounts(place)
    for name in ("home", "data", "lab", "media/usb", "mnt", "shared", "srv"):
        (place / name).mkdir(parents=True)
    factory.made += [Mount(home / name, []) for name in ("vbn", "vbo")] + [Mount(place / "mnt" / "vbn", [])]
    newest = release.versions[-1].sources
    # The files of another version are not in the cache yet, and can be read in place.
    for cache, version in ((home, "0.5.0"), (place / "data", "0.4.0")):
        [one] = (one for one in release.versions if str(one.version) == version)
        for path, source in one.sources.items():
            target = cache / "allensdk_cache" / f"visual-behavior-neuropixels-{version}" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    session = min(path for path in newest if "/ecephys_session_" in path)
    shutil.copy(newest[session], home / "recording.h5")
    machine = Machine(home, reader(home, VBNFS_ENDPOINT_URL=endpoint_url), int(session.split("/")[1]))
    machine.type("vbnfs verify --fetch 0.5.0")
    machine.type("vbnfs index build --all")
    machine.type("vbnfs index export /lab/vbn.index")
    yield machine
    factory.end()


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if any(map(is_typed, lines_of(document)))])
def test_each_line_can_be_typed(document: str, machine: Machine) -> None:
    """The lines of a document succeed one after the other."""
    for line in filter(is_typed, lines_of(document)):
        machine.type(line)


def test_what_is_not_typed_is_there() -> None:
    """Each reason for leaving lines out holds for a line, or for what other documents may have."""
    left_out = [line for document in DOCUMENTS for line in lines_of(document) if not is_typed(line)]
    assert 5 < len(left_out) < 25
