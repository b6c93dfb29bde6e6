"""What a user who waits for a server can read meanwhile, and when (pure)."""

from typing import Final

from vbnfs.config.settings import Config

WAITING_SECONDS: Final = 2.0  # without a word; where all is well, it takes one until the versions are known


def what_takes_so_long(config: Config) -> str:
    """What a mount or a command waits for that does not know after some seconds which versions there are."""
    if config.offline:
        return f"still reading what {config.cache_dir} keeps of the dataset's versions"
    server = config.endpoint_url or "AWS"
    return f"waiting for {server} to answer which versions {config.bucket} has; Ctrl-C ends it"
