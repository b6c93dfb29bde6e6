"""mount(8) options: `-o a,b=c` as settings by name, and as options for the kernel (pure)."""

from collections.abc import Iterable
from typing import Final

from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS
from vbnfs.errors import UsageError

NON_EMPTY: Final = "nonempty"  # of libfuse: mount on a folder with files in it, too
# mount(8) options that vbnfs leaves to the kernel or to libfuse ...
_PASSED_OPTIONS: Final = frozenset({"noatime", "nodiratime", "nodev", "nosuid", "noexec", "dev", "suid", "exec"})
# ... those that hold anyway or are mount(8)'s own, which have no effect here, and beginnings of such options.
_IGNORED_OPTIONS: Final = frozenset({
    "ro", "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "nousers", "owner", "noowner",
    "group", "nogroup", NON_EMPTY, "atime", "relatime", "strictatime", "async", "sync", "dirsync", "silent", "loud",
})  # fmt: skip
_IGNORED_BEGINNINGS: Final = ("x-", "X-", "comment=", "user=")


def split_mount_options(texts: Iterable[str]) -> list[str]:
    """The options of several `-o` texts, in their order."""
    return [option for text in texts for option in text.split(",") if option]


def is_mount_option(option: str) -> bool:
    """Whether `parse_mount_options` knows an option, be its value right or wrong."""
    return (
        _setting_name(option.partition("=")[0]) in SETTING_BY_NAME
        or option in _PASSED_OPTIONS | _IGNORED_OPTIONS
        or option.startswith(_IGNORED_BEGINNINGS)
    )


def parse_mount_options(texts: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Split `-o a,b=c` texts into settings by name, and options for the kernel. Raises `UsageError`."""
    settings: dict[str, str] = {}
    passed: dict[str, str] = {}  # of `noexec` and a later `exec` (mount(8) gives both) the later one counts
    for option in split_mount_options(texts):
        word, equals, value = option.partition("=")
        name = _setting_name(word)
        if option == "rw":
            raise UsageError("-o rw: the dataset is read-only; leave the option out")
        if not is_mount_option(option):
            raise UsageError(f"-o {option}: no such mount option; {_options_like(word)}")
        if name in SETTING_BY_NAME:
            settings[name] = value if equals else _flag_value(name)
        elif option in _PASSED_OPTIONS:
            passed[option.removeprefix("no")] = option
    return settings, tuple(passed.values())


def _options_like(word: str) -> str:
    """All options, after the one that may have been meant."""
    import difflib  # noqa: PLC0415 - only for a typing error

    names = [setting.name for setting in SETTINGS]
    meant = difflib.get_close_matches(_setting_name(word), [*names, *_PASSED_OPTIONS, *_IGNORED_OPTIONS], n=1)
    begin = f"did you mean {meant[0]}? There" if meant else "there"
    return f"{begin} are {', '.join(names)}, and mount(8)'s own, such as ro, nodev, nofail"


def _setting_name(word: str) -> str:
    """A setting's name; it may be spelled cache_dir, or cache-dir as on the command line."""
    return word.replace("-", "_")


def _flag_value(name: str) -> str:
    if not SETTING_BY_NAME[name].is_flag:
        raise UsageError(f"-o {name}: a value is wanted, as in {name}={SETTING_BY_NAME[name].metavar}")
    return "true"
