"""Manual pages, generated from the commands: roff with the macros of man(7).

Each command has a page `vbnfs-COMMAND(1)`. What `--help` leaves out, because a screen is small, stands here: all
settings, and what each example does. `mount.vbnfs(8)` is for mount(8)'s helper.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import click

from vbnfs import __version__
from vbnfs.cli.examples import EXAMPLES
from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS, Setting

_STATUSES: Final = (
    ("0", "Done."),
    ("1", "Understood, but not done. The message says why, and where that is explained."),
    ("2", "The command line, a variable or a configuration file is wrong."),
    ("130", "Interrupted."),
)
_HELPER_STATUSES: Final = (
    ("0", "Mounted."),
    ("1", "Wrong usage: an option, a setting, the source."),
    ("2", "The system fails."),
    ("8", "Interrupted."),
    ("32", "Not mounted. The message says why."),
)
_FILES: Final = (
    ("~/.config/vbnfs/config.toml", "Settings, as 'vbnfs settings' lists them."),
    ("~/.cache/vbnfs", "The cache, unless cache_dir names another folder."),
    (
        "~/.local/state/vbnfs/log/vbnfs.log",
        "The log of mounts in the background, unless log_file names another file.",
    ),
    ("/etc/vbnfs/NAME.toml", "Settings of the unit vbnfs@NAME.service."),
)
_HELPER_OPTIONS: Final = (
    ("config=FILE", "A TOML file of settings, over which the options win."),
    ("setuid=USER", "The daemon, the cache and the log are that user's."),
    ("remount", "Changes nothing, and says so."),
)

Rows = Iterable[tuple[str, str]]


def pages(cli: click.Group) -> Mapping[str, str]:
    """The manual pages of the program, by file name: vbnfs.1, vbnfs-mount.1, ..., mount.vbnfs.8."""
    found = {f"{'-'.join(words)}.1": _page(words, command) for words, command in _commands(["vbnfs"], cli)}
    return {**found, "mount.vbnfs.8": _helper_page()}


def _commands(words: Sequence[str], command: click.Command) -> Iterator[tuple[Sequence[str], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            if inner is not None and not inner.hidden:
                yield from _commands([*words, name], inner)


def _page(words: Sequence[str], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(words), help_option_names=["-h", "--help"])
    name, (summary, text) = "-".join(words), _parts_of(command)
    usage = " ".join(command.collect_usage_pieces(context))
    sections = [
        _section("NAME", f"{_text(name)} \\- {_text(summary.rstrip('.'))}"),
        _section("SYNOPSIS", f".B {_text(' '.join(words))}\n{_text(usage)}"),
        _section("DESCRIPTION", _paragraphs(f"{summary}\n\n{text}")),
        _listed("OPTIONS", _own_options(command, context)),
        _listed("COMMANDS", _inner(command)),
        _listed("SETTINGS", _settings_of(command), before="Each is also a variable and a key of the TOML file."),
        _listed("EXAMPLES", EXAMPLES.get(" ".join(words[1:]), ())),
        _listed("EXIT STATUS", _STATUSES),
        _listed("FILES", _FILES) if len(words) == 1 else "",
        _section("SEE ALSO", _see_also(words)),
    ]
    return _whole(name, 1, sections)


def _helper_page() -> str:
    source = "DATASET FOLDER [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION[,...]]"
    about = (
        "mount(8) runs this program for 'mount -t vbnfs DATASET FOLDER' and for lines of fstab(5).\n\n"
        "DATASET is a dataset's name, also with 's3:' before it, or a project."
    )
    flags = (
        ("-s", "Tolerate options that are not known."),
        ("-f", "Check the settings and mount nothing."),
        ("-v", "Write more: what is waited for, what was mounted."),
        ("-n", "Without effect: there is no mtab."),
        ("-N NAMESPACE", "Mount in this mount namespace."),
    )
    line = "s3:visual-behavior-neuropixels /mnt/vbn vbnfs allow_other,cache_dir=/var/cache/vbnfs,_netdev,nofail 0 0"
    examples = (
        ("mount -t vbnfs s3:visual-behavior-neuropixels /mnt/vbn -o allow_other", "by hand"),
        (line, "as a line of fstab(5)"),
    )
    sections = [
        _section("NAME", "mount.vbnfs \\- mount a dataset on S3 by mount(8)"),
        _section("SYNOPSIS", f".B mount.vbnfs\n{_text(source)}"),
        _section("DESCRIPTION", _paragraphs(about)),
        _listed("OPTIONS", flags),
        _listed("MOUNT OPTIONS", [*_HELPER_OPTIONS, *((_mount_option(one), one.help) for one in SETTINGS)]),
        _listed("EXAMPLES", examples),
        _listed("EXIT STATUS", _HELPER_STATUSES),
        _section("SEE ALSO", ".BR vbnfs-mount (1),\n.BR mount (8),\n.BR fstab (5)"),
    ]
    return _whole("mount.vbnfs", 8, sections)


def _mount_option(setting: Setting) -> str:
    return setting.name if setting.is_flag else f"{setting.name}={setting.metavar}"


def _whole(name: str, section: int, sections: Iterable[str]) -> str:
    head = f'.TH {_text(name.upper())} {section} "" "vbnfs {__version__}" "vbnfs"\n.nh\n.ad l\n'
    return head + "".join(sections)


def _parts_of(command: click.Command) -> tuple[str, str]:
    """The first sentence of a command's help, and the rest."""
    summary, _, text = (command.help or "").replace("\b\n", "").strip().partition("\n")
    return summary.strip(), text.strip()


def _own_options(command: click.Command, context: click.Context) -> Rows:
    """The options that are no settings; `--help` is click's."""
    for param in command.get_params(context):
        if isinstance(param, click.Option) and not _is_setting(param):
            names = ", ".join([*param.opts, *param.secondary_opts])
            takes = "" if param.is_flag or param.count else f" {param.make_metavar(context)}"
            yield names + takes, param.help or ""


def _settings_of(command: click.Command) -> Rows:
    for param in command.params:
        if isinstance(param, click.Option) and _is_setting(param):
            setting = SETTING_BY_NAME.get(param.name or "")
            names = ", ".join([*param.opts, *param.secondary_opts])
            takes = "" if param.is_flag else f" {param.metavar}"
            yield names + takes, setting.help if setting else "A TOML file of settings."


def _is_setting(param: click.Parameter) -> bool:
    return param.name == "config_file" or param.name in SETTING_BY_NAME


def _inner(command: click.Command) -> Rows:
    if isinstance(command, click.Group):
        for words, inner in _commands([], command):
            if len(words) == 1:
                yield words[0], _parts_of(inner)[0]


def _see_also(words: Sequence[str]) -> str:
    first = ".BR vbnfs-settings (1),\n" if words[-1] != "settings" else ""
    return f".BR vbnfs (1),\n{first}.BR mount.vbnfs (8)" if words[1:] else f"{first}.BR mount.vbnfs (8)"


# man(7)


def _section(name: str, text: str) -> str:
    return f".SH {name}\n{text}\n"


def _listed(name: str, rows: Rows, *, before: str = "") -> str:
    """A section of terms and their meanings; '' where there is none."""
    items = "".join(f".TP\n.B {_text(term)}\n{_text(' '.join(meaning.split()))}\n" for term, meaning in rows)
    return _section(name, f"{_text(before)}\n{items}".strip()) if items else ""


def _paragraphs(text: str) -> str:
    parts = re.split(r"\n\s*\n", text.strip())
    return "\n.PP\n".join(_text(" ".join(part.split())) for part in parts if part.strip())


def _text(text: str) -> str:
    """Text that roff shows as it stands: groff_char(7); a line that begins with . or ' would be a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti")
    escaped = escaped.replace("`", "\\(ga").replace("'", "\\(aq").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
