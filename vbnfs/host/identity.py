"""Users and groups: the one whose process this is, and the names of others."""

import os

try:
    import grp
    import pwd
except ImportError:  # Windows: users have no numbers, and files no modes
    HAS_USERS = False
else:
    HAS_USERS = True


def our_uid() -> int:
    """The user for whom this process acts; 0, as `os.stat` has it for every file, where users have no numbers."""
    return os.geteuid() if HAS_USERS else 0


def user_name(uid: int) -> str:
    """A user's name, or what to call a user who is not in the password database."""
    try:
        return pwd.getpwuid(uid).pw_name if HAS_USERS else f"user {uid}"
    except (KeyError, OverflowError):
        return f"user {uid}"


def user_or_root(uid: int) -> str:
    """Who may do what a user and root may."""
    return "root" if uid == 0 else f"{user_name(uid)} or root"


def uid_of(name: str) -> int | None:
    """The number of a user; None for a name that is not in the password database."""
    try:
        return pwd.getpwnam(name).pw_uid if HAS_USERS else None
    except (KeyError, ValueError):
        return None


def gid_of(name: str) -> int | None:
    """The number of a group; None for a name that is not in the database."""
    try:
        return grp.getgrnam(name).gr_gid if HAS_USERS else None
    except (KeyError, ValueError):
        return None


def our_groups() -> set[int]:
    """The groups for which this process acts; none where groups have no numbers."""
    return {os.getegid(), *os.getgroups()} if HAS_USERS else set()


def group_name(gid: int) -> str:
    """A group's name; its number where it is not in the database."""
    try:
        return grp.getgrgid(gid).gr_name if HAS_USERS else str(gid)
    except (KeyError, OverflowError):
        return str(gid)


def members_of(gid: int) -> set[str] | None:
    """The names of a group's members, without those whose own group it is; None where it is not in the database."""
    try:
        return set(grp.getgrgid(gid).gr_mem) if HAS_USERS else None
    except (KeyError, OverflowError):
        return None


def real_name(uid: int) -> str:
    """What a user is called as a person (GECOS, passwd(5)); '' if that is not known."""
    try:
        return pwd.getpwuid(uid).pw_gecos.partition(",")[0] if HAS_USERS else ""
    except (KeyError, OverflowError):
        return ""
