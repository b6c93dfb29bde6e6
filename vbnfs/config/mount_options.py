"""mount(8) options: `-o a,b=c` as settings by name, and as options for the kernel (pure)."""

import re
from collections.abc import Iterable
from typing import Final

from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS
from vbnfs.errors import UsageError

REMOTE: Final = "s3:"  # what a mount's source begins with: a colon makes a file system a remote one to df(1)
NON_EMPTY: Final = "nonempty"  # of libfuse: mount on a folder with files in it, too
# mount(8) options that vbnfs leaves to the kernel ...
_PASSED_OPTIONS: Final = frozenset({
    "noatime", "nodiratime", "nodev", "nosuid", "noexec", "nosymfollow", "dev", "suid", "exec",
})  # fmt: skip
# ... those of the kernel that have a value: SELinux's labels, and the length of a read ...
_PASSED_WITH_VALUE: Final = frozenset({"context", "fscontext", "defcontext", "rootcontext", "max_read"})
# ... those that hold anyway or are mount(8)'s own, which have no effect here, and beginnings of such options.
_IGNORED_OPTIONS: Final = frozenset({
    "ro", "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "nousers", "owner", "noowner",
    "group", "nogroup", NON_EMPTY, "atime", "diratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand", "async", "sync", "dirsync", "silent",
    "loud", "default_permissions",
})  # fmt: skip
_IGNORED_BEGINNINGS: Final = ("x-", "X-", "comment=", "user=")
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
        or (word in _PASSED_WITH_VALUE and equals != "")
        or option.startswith(_IGNORED_BEGINNINGS)
    )


def parse_mount_options(texts: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Split `-o a,b=c` texts into settings by name, and options for the kernel. Raises `UsageError`."""
    settings: dict[str, str] = {}
    passed: dict[str, str] = {}  # of `noexec` and a later `exec` (mount(8) gives both) the later one counts
    for option in split_mount_options(texts):
        word, equals, _ = option.partition("=")
        name, value = _setting_name(word), value_of(option)
        if option == "rw":
            raise UsageError("-o rw: the dataset is read-only; leave the option out")
        if not is_mount_option(option):
            raise UsageError(f"-o {option}: no such mount option; {_options_like(word)}")
        if name in SETTING_BY_NAME:
            settings[name] = value if equals else _flag_value(name)
        elif option in _PASSED_OPTIONS:
            passed[option.removeprefix("no")] = option
        elif word in _PASSED_WITH_VALUE:
            passed[word] = _checked(word, value)
    return settings, tuple(passed.values())


def _checked(word: str, value: str) -> str:
    """An option for the kernel with a value that can be one. Raises `UsageError`."""
    if word == "max_read" and re.fullmatch(r"\d{1,9}", value) is None:
        raise UsageError(f"-o {word}={value}: a number of bytes is wanted, as in {word}=131072")
    if not value or '"' in value:
        raise UsageError(f"-o {word}={value}: a label is wanted, as in {word}=system_u:object_r:nfs_t:s0")
    return (
        f'{word}="{value}"' if "," in value else f"{word}={value}"
    )  # as the kernel wants it: selinux_sb_eat_lsm_opts


def _options_like(word: str) -> str:
    """All options, after the one that may have been meant."""
    import difflib  # noqa: PLC0415 - only for a typing error

    names = [setting.name for setting in SETTINGS]
    known = [*names, *_PASSED_OPTIONS, *_PASSED_WITH_VALUE, *_IGNORED_OPTIONS]
    meant = difflib.get_close_matches(_setting_name(word), known, n=1)
    asked = f"did you mean {meant[0]}? There" if meant else "there"
    return f"{asked} are {', '.join(names)}, and mount(8)'s own, such as ro, nodev, nofail, context="


def _setting_name(word: str) -> str:
    """A setting's name; it may be spelled cache_dir, or cache-dir as on the command line."""
    return word.replace("-", "_")


def _flag_value(name: str) -> str:
    if not SETTING_BY_NAME[name].is_flag:
        raise UsageError(f"-o {name}: a value is wanted, as in {name}={SETTING_BY_NAME[name].metavar}")
    return "true"
