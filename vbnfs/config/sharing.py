"""Who may read a mount, as the settings say it: whose its files are shown to be, and with which permissions (pure).

The kernel checks what is shown (`default_permissions`). So `allow_root` needs no check of our own: the kernel lets
others in, and modes keep out all but the owner, and root, which no mode keeps out.
"""

from dataclasses import dataclass

from vbnfs.config.settings import Config
from vbnfs.errors import UsageError

_OF_OTHERS = 0o077  # all that group and others may


@dataclass(frozen=True, slots=True)
class Sharing:
    """User and group to be shown, None for those of the process; permissions that files and folders lack."""

    uid: int | None = None
    gid: int | None = None
    file_mask: int = 0
    folder_mask: int = 0
    lets_others_in: bool = False


def sharing_of(config: Config) -> Sharing:
    """What the settings say. Raises `UsageError` for two of them that exclude each other."""
    if config.allow_root and config.allow_other:
        raise UsageError("allow_root and allow_other: the one lets root in, the other everybody: leave one out")
    always = _OF_OTHERS if config.allow_root else 0
    umask = config.umask or 0
    return Sharing(
        config.uid,
        config.gid,
        file_mask=always | (umask if config.fmask is None else config.fmask),
        folder_mask=always | (umask if config.dmask is None else config.dmask),
        lets_others_in=config.allow_other or config.allow_root,
    )
