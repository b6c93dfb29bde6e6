"""mount(8) options: `-o a,b=c` as settings by name, and as options for the kernel (pure)."""

import re
from collections.abc import Iterable
from typing import Final

from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS
from vbnfs.errors import UsageError

REMOTE: Final = "s3:"  # what a mount's source begins with: a colon makes a file system a remote one to df(1)
NON_EMPTY: Final = "nonempty"  # of libfuse: mount on a folder with files in it, too
# mount(8) options that vbnfs leaves to the kernel; `symfollow` is how it does without.
_PASSED_OPTIONS: Final = frozenset({
    "noatime", "nodiratime", "nodev", "nosuid", "noexec", "nosymfollow", "symfollow", "dev", "suid", "exec",
})  # fmt: skip
_AS_WITHOUT: Final = frozenset({"symfollow"})
# ... those that have a value: SELinux's labels, the length of a read, the name of the source ...
_PASSED_WITH_VALUE: Final = frozenset({"context", "fscontext", "defcontext", "rootcontext", "max_read", "fsname"})
# ... those that hold anyway or are mount(8)'s own, which have no effect here ...
_OF_MOUNT: Final = frozenset({
    "ro", "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "nousers", "owner", "noowner",
    "group", "nogroup", NON_EMPTY, "atime", "diratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand", "async", "sync", "dirsync", "silent",
    "loud", "default_permissions", "subtype=vbnfs",
})  # fmt: skip
# ... those of libfuse that tune what vbnfs decides by itself, or that concern writing (mount.fuse3(8)) ...
_OF_LIBFUSE: Final = frozenset({
    "intr", "nointr", "kernel_cache", "auto_cache", "noauto_cache", "big_writes", "large_read", "async_read",
    "sync_read", "use_ino", "readdir_ino", "hard_remove", "noforget", "writeback_cache", "atomic_o_trunc", "clone_fd",
    *(f"{no}splice_{what}" for no in ("", "no_") for what in ("read", "write", "move")),
    *(f"no_remote_{what}" for what in ("lock", "flock", "posix_lock")),
})  # fmt: skip
_NUMBERS_OF_LIBFUSE: Final = frozenset({
    "attr_timeout", "entry_timeout", "negative_timeout", "ac_attr_timeout", "remember", "max_readahead",
    "max_background", "congestion_threshold", "max_write", "max_idle_threads", "max_threads",
})  # fmt: skip
_IGNORED_OPTIONS: Final = _OF_MOUNT | _OF_LIBFUSE
# ... and beginnings of such options.
_IGNORED_BEGINNINGS: Final = ("x-", "X-", "comment=", "user=", "helper=", "uhelper=")
_NOT_HERE: Final = "vbnfs has none of libfuse's modules; leave it out"
_SETS_IT: Final = "vbnfs gives that to the kernel itself; leave it out"
# Known options that ask for what a mount of vbnfs is not, and what to do instead.
_REFUSED: Final = {
    "rw": "the dataset is read-only; leave the option out",
    "direct_io": "the kernel keeps the pages of files, which never change; leave it out",
    "debug": "write log_level=debug instead",
    "subtype": "mounts of vbnfs are found by their type, fuse.vbnfs; leave it out",
    **dict.fromkeys(("modules", "subdir", "rellinks", "norellinks", "from_code", "to_code"), _NOT_HERE),
    **dict.fromkeys(("fd", "rootmode", "user_id", "group_id"), _SETS_IT),
}
_OPTION: Final = re.compile(r'(?:"[^"]*"|[^,"]|")+')  # commas within quotes do not divide: mount(8), "context"


def split_mount_options(texts: Iterable[str]) -> list[str]:
    """The options of several `-o` texts, in their order. A value in double quotes may have commas."""
    return [option for text in texts for option in _OPTION.findall(text)]


def value_of(option: str) -> str:
    """What stands after `=`, without the quotes around it."""
    value = option.partition("=")[2]
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def is_mount_option(option: str) -> bool:
    """Whether `parse_mount_options` knows an option, be its value right or wrong."""
    word, equals, _ = option.partition("=")
    return (
        _setting_name(word) in SETTING_BY_NAME
        or option in _PASSED_OPTIONS | _IGNORED_OPTIONS
        or (word in _PASSED_WITH_VALUE | _NUMBERS_OF_LIBFUSE and equals != "")
        or option.startswith(_IGNORED_BEGINNINGS)
    )


def parse_mount_options(texts: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Split `-o a,b=c` texts into settings by name, and options for the kernel. Raises `UsageError`."""
    settings: dict[str, str] = {}
    passed: dict[str, str] = {}  # of `noexec` and a later `exec` (mount(8) gives both) the later one counts
    for option in split_mount_options(texts):
        word, equals, _ = option.partition("=")
        name, value = _setting_name(word), value_of(option)
        if not is_mount_option(option):
            raise UsageError(f"-o {option}: {_REFUSED.get(word) or f'no such mount option; {_options_like(word)}'}")
        if name in SETTING_BY_NAME:
            settings[name] = value if equals else _flag_value(name)
        elif option in _PASSED_OPTIONS:
            passed[option.removeprefix("no")] = option
        elif word in _PASSED_WITH_VALUE:
            passed[word] = _checked(word, value)
        elif word in _NUMBERS_OF_LIBFUSE:
            _check(word, value, r"\d{1,9}(\.\d{0,9})?", f"a number is wanted, as in {word}=1")
    return settings, tuple(option for option in passed.values() if option not in _AS_WITHOUT)


def _checked(word: str, value: str) -> str:
    """An option for the kernel with a value that can be one. Raises `UsageError`."""
    if word == "max_read":
        _check(word, value, r"\d{1,9}", f"a number of bytes is wanted, as in {word}=131072")
    elif word == "fsname":
        _check(
            word, value, r"[!#-+\--\[\]-~]{1,200}", f"a name without blanks and commas is wanted, as in {word}=vbn"
        )
    else:
        _check(word, value, r'[^"]+', f"a label is wanted, as in {word}=system_u:object_r:nfs_t:s0")
    # As the kernel wants it: selinux_sb_eat_lsm_opts.
    return f'{word}="{value}"' if "," in value else f"{word}={value}"


def _check(word: str, value: str, pattern: str, wanted: str) -> None:
    if re.fullmatch(pattern, value, re.ASCII) is None:
        raise UsageError(f"-o {word}={value}: {wanted}")


def _options_like(word: str) -> str:
    """All options, after the one that may have been meant."""
    from vbnfs.suggestions import near  # noqa: PLC0415 - only for a typing error

    names = [setting.name for setting in SETTINGS]
    known = [*names, *_PASSED_OPTIONS, *_PASSED_WITH_VALUE, *_IGNORED_OPTIONS, *_NUMBERS_OF_LIBFUSE]
    meant = near(_setting_name(word), known)
    asked = f"did you mean {meant[0]}? There" if meant else "there"
    return f"{asked} are {', '.join(names)}, and mount(8)'s own, such as ro, nodev, nofail, context="


def _setting_name(word: str) -> str:
    """A setting's name; it may be spelled cache_dir, or cache-dir as on the command line."""
    return word.replace("-", "_")


def _flag_value(name: str) -> str:
    if not SETTING_BY_NAME[name].is_flag:
        raise UsageError(f"-o {name}: a value is wanted, as in {name}={SETTING_BY_NAME[name].metavar}")
    return "true"
