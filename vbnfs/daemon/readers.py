"""Who reads a mount: as whose its files are shown, and settings that do not let in those for whom they are meant."""

import os
import stat

from vbnfs.config.settings import Config
from vbnfs.config.sharing import sharing_of
from vbnfs.errors import MountError
from vbnfs.filesystem.ownership import Ownership
from vbnfs.host.capabilities import DAC_OVERRIDE, DAC_READ_SEARCH, has_capability
from vbnfs.host.identity import group_name, our_groups, user_name

_SHOWN = (stat.S_IFREG | 0o444, stat.S_IFDIR | 0o555)


def ownership_of(config: Config) -> Ownership:
    """Whose files are shown to be."""
    sharing, own = sharing_of(config), Ownership.of_this_process()
    return Ownership(
        own.uid if sharing.uid is None else sharing.uid,
        own.gid if sharing.gid is None else sharing.gid,
        sharing.file_mask,
        sharing.folder_mask,
    )


def check_readers(config: Config) -> None:
    """Raise `MountError` where this process could not read its own mount: it drops pages of wrong files there."""
    shown = ownership_of(config)
    if has_capability(DAC_OVERRIDE) or has_capability(DAC_READ_SEARCH):
        return
    if not all(shown.lets_read(mode, os.geteuid(), our_groups()) for mode in _SHOWN):
        raise MountError(
            f"files of {user_name(shown.uid)} and {group_name(shown.gid)} with these permissions (uid, gid, umask):"
            f" {user_name(os.geteuid())}, who mounts, could not read them; leave uid out, or give a umask such as 022"
        )


def problems_of_sharing(config: Config) -> tuple[str, ...]:
    """What will not have the effect for which it is probably meant."""
    sharing = sharing_of(config)
    names = [name for name in ("uid", "gid") if getattr(sharing, name) not in {None, _own(name)}]
    if sharing.lets_others_in or not names:
        return ()
    return (f"{' and '.join(names)} without allow_other: no other user can enter the mount; add allow_other",)


def _own(name: str) -> int:
    return os.getuid() if name == "uid" else os.getgid()
