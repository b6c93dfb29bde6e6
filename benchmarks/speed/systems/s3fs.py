"""s3fs-fuse with its cache."""

from pathlib import Path

from benchmarks.speed.files import BUCKET, PROJECT
from benchmarks.speed.systems.base import FuseSystem


class S3fs(FuseSystem):
    """`s3fs -f`, anonymous, path style, with as many connections as every system."""

    def command(self) -> list[str]:
        """The certificate to trust stands in the environment."""
        count = self.site.connections
        options = [f"url={self.site.listener.url}", "use_path_request_style", "public_bucket=1", "ro"]
        options += [f"use_cache={self.directory}", f"parallel_count={count}", f"multireq_max={count}"]
        return ["s3fs", BUCKET, str(self.mountpoint), "-f", "-o", ",".join(options)]

    def top(self) -> Path:
        """It mounts the bucket."""
        return self.mountpoint / PROJECT
