"""Examples of every command: its help and its manual page show them.

A table and no texts at the commands: so one test types all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import click

# By the words behind `vbnfs`: lines that can be typed, each with what it does.
EXAMPLES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "mount": (
        ("vbnfs mount ~/vbn", "the newest version"),
        ("vbnfs mount ~/vbo --dataset visual-behavior-ophys", "the sister dataset"),
        ("vbnfs mount ~/vbn --record figure-3.jsonl", "with a record of what is read"),
    ),
    "umount": (("vbnfs umount ~/vbn", "one mount"), ("vbnfs umount --all", "all that are yours")),
    "status": (("vbnfs status", "all mounts"), ("vbnfs status ~/vbn --json", "one, for a program")),
    "top": (("vbnfs top", "what is read and fetched, as it happens"),),
    "web": (("vbnfs web --open", "the page, in your browser"),),
    "doctor": (("vbnfs doctor", "what is wrong, and what helps"),),
    "limit-rate": (("vbnfs limit-rate 5M", "5 MiB a second"), ("vbnfs limit-rate off", "no limit")),
    "versions": (("vbnfs versions", "all of them"), ("vbnfs versions --offline", "those known without network")),
    "diff": (("vbnfs diff", "the newest with the one before"), ("vbnfs diff 0.4.0 0.5.0 --summary", "two by name")),
    "urls": (("vbnfs urls --dataset-version 0.4.0", "the files of one version"),),
    "verify": (
        ("vbnfs verify 0.5.0", "what is cached of a version"),
        ("vbnfs verify --fetch ~/vbn/ecephys_sessions/ecephys_session_1044385384.nwb", "all of a file"),
    ),
    "digests": (("vbnfs digests export vbn.digests", "for another cache"),),
    "digests export": (("vbnfs digests export vbn.digests", "of all files"),),
    "digests import": (("vbnfs digests import vbn.digests", "from another cache"),),
    "index": (("vbnfs index show", "which files it has"), ("vbnfs index build --all", "all files of all versions")),
    "index build": (("vbnfs index build 0.5.0", "the files of a version"),),
    "index show": (("vbnfs index show --json", "with the blocks"),),
    "index export": (("vbnfs index export vbn.index", "for another cache"),),
    "index import": (("vbnfs index import vbn.index", "from another cache"),),
    "sessions": (("vbnfs sessions --query \"sex == 'F'\"", "of female mice"),),
    "probes": (("vbnfs probes --query \"name == 'probeA'\"", "one probe of each session"),),
    "units": (("vbnfs units --query \"structure_acronym == 'VISp'\"", "of one area"),),
    "tables": (("vbnfs tables units", "rows of a table"), ("vbnfs tables genotype", "the values of a column")),
    "tree": (("vbnfs tree 1044385384/units", "a part of a session's file"),),
    "map": (("vbnfs map 1044385384 -o session.svg", "as a picture"),),
    "prefetch": (
        ("vbnfs prefetch project_metadata", "all tables"),
        ("vbnfs prefetch --sessions \"experience_level == 'Novel'\" --dry-run", "what it would fetch"),
        ("vbnfs prefetch --record figure-3.jsonl", "what was read elsewhere"),
        ("vbnfs prefetch --sessions all --dask tcp://node1:8786", "by the workers of a cluster"),
    ),
    "pin": (
        ("vbnfs pin novel --sessions \"experience_level == 'Novel'\"", "fetch and keep sessions, by name"),
        ("vbnfs pin --update", "newer versions"),
    ),
    "unpin": (("vbnfs unpin novel", "keep them no longer"),),
    "pins": (("vbnfs pins", "all of them"), ("vbnfs pins novel --json", "one, for a program")),
    "du": (("vbnfs du --by kind", "tables, sessions, LFP"),),
    "clean": (("vbnfs clean --dry-run", "what would be freed"), ("vbnfs clean --all", "free all files")),
    "import": (("vbnfs import ~/allensdk_cache --dry-run", "what is there"),),
    "export": (
        ("vbnfs export /media/usb/vbn --sessions \"experience_level == 'Novel'\"", "for machines without network"),
    ),
    "cite": (
        ("vbnfs cite --record figure-3.jsonl", "what was read, for a paper"),
        ("vbnfs cite --record figure-3.jsonl --ro-crate figure-3", "as an RO-Crate"),
    ),
    "site-cache": (("vbnfs site-cache nginx", "an nginx.conf"),),
    "site-cache nginx": (("vbnfs site-cache nginx --listen 10.1.2.3:8090 --size 500G", "for a network"),),
    "site-cache units": (
        ("vbnfs site-cache units ./units", "for systemd"),
        (
            "vbnfs site-cache units ./units --directory /data/site-cache",
            "on another disk, as the configuration has it",
        ),
    ),
    "site-cache trafficserver": (("vbnfs site-cache trafficserver ./site-cache", "a folder of files"),),
    "site-cache metrics": (("vbnfs site-cache metrics --listen 127.0.0.1:9465", "for Prometheus"),),
    "site-cache compose": (("vbnfs site-cache compose", "for a container"),),
    "install": (("vbnfs install --dry-run", "what would be put where"), ("sudo vbnfs install", "for all users")),
    "uninstall": (("vbnfs uninstall --dry-run", "what would be removed"),),
    "install-helper": (("sudo vbnfs install-helper", "as 'vbnfs install' does"),),
    "install-units": (("vbnfs install-units --user", "as 'vbnfs install' does"),),
    "settings": (("vbnfs settings", "all of them"), ("vbnfs settings --json", "for a program")),
    "demo": (("vbnfs demo", "all of it, without the real dataset"),),
}


def with_examples(words: str, command: click.Command) -> click.Command:
    """The command that is typed as `words`, and those below it, with their examples in their help."""
    lines = [line for line, _ in EXAMPLES.get(words, ())]
    if lines:
        end = (command.epilog or "").removeprefix("\b\n")
        command.epilog = "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines), "", "\b", end])
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            with_examples(f"{words} {name}", inner)
    return command
