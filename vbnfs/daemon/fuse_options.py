"""With which options a mount is made, as the settings have it."""

from vbnfs.config.mount_options import REMOTE
from vbnfs.config.settings import Config
from vbnfs.config.sharing import sharing_of

_SOURCE = "fsname="


def fuse_options(config: Config, *, source: str | None = None) -> list[str]:
    """Options as for mount(8), one each. `source`: its name in lists of mounts, if not the one that settings give."""
    options = ["ro", "default_permissions", "subtype=vbnfs", *config.fuse_options]
    if source is not None:
        options = [option for option in options if not option.startswith(_SOURCE)] + [f"{_SOURCE}{source}"]
    elif not any(option.startswith(_SOURCE) for option in options):
        # With a colon, df -l and its kin take it for a remote one: gnulib's mountlist.c.
        options.append(f"{_SOURCE}{config.source or REMOTE + config.project}")
    return [*options, "allow_other"] if sharing_of(config).lets_others_in else options
