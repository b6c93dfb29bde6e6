"""rclone mount with a full cache, as it comes and tuned."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.speed.files import BUCKET, PROJECT
from benchmarks.speed.systems.base import BENCH_BIN, FuseSystem, Site

# Parallel streams are off unless asked for; the readahead keeps them busy.
TUNED = ("--vfs-read-chunk-size", "4M", "--vfs-read-ahead", "128M", "--buffer-size", "0", "--vfs-read-chunk-streams")
_HANDLE_SECONDS: Final = 6.0  # by default it keeps a handle for 5


class Rclone(FuseSystem):
    """`rclone mount --vfs-cache-mode full`; `tuned` reads ahead in as many streams as there are connections."""

    def __init__(self, name: str, site: Site, directory: Path, *, tuned: bool = False) -> None:
        super().__init__(name, site, directory)
        self._options: Sequence[str] = (*TUNED, str(site.connections)) if tuned else ()

    def settle(self) -> None:
        """It writes down what it has of a file when it lets go of it (--vfs-handle-caching), and not as it ends."""
        time.sleep(_HANDLE_SECONDS)

    def command(self) -> list[str]:
        """No configuration file; anonymous, path style."""
        options = ["--config", "/dev/null", "--s3-provider", "Other", "--s3-force-path-style", "--read-only"]
        options += ["--s3-endpoint", self.site.listener.url, "--vfs-cache-mode", "full"]
        options += ["--cache-dir", str(self.directory)]
        options += ["--ca-cert", str(self.site.ca)] if self.site.is_tls else []
        remote = f":s3:{BUCKET}/{PROJECT}"
        return [str(BENCH_BIN / "rclone"), "mount", *options, *self._options, remote, str(self.mountpoint)]
