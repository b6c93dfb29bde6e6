"""The report: what an examination found, as a text for a person who is to help, without what is private."""

import json
import re
from collections.abc import Iterator, Mapping, Set
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import vbnfs
from vbnfs.config.environment import variables
from vbnfs.config.settings import SETTINGS, Config, Setting
from vbnfs.config.sources import load_config
from vbnfs.doctor.disk import DiskFacts
from vbnfs.doctor.examination import Examination, Order
from vbnfs.doctor.machine import MachineFacts
from vbnfs.doctor.mounts import MountFacts
from vbnfs.doctor.private import known_private
from vbnfs.doctor.redaction import Redactor

_VARIABLES: Final = re.compile(r"(?:https?|all|no)_proxy|VBNFS_\w+|SSL_CERT_\w+|\w+_CA_BUNDLE", re.IGNORECASE)
_OF_THE_LOG: Final = ("timestamp", "level", "event", "reason", "error")
_SECONDS: Final = 19  # characters of a time in ISO 8601
_LONGEST_LINE: Final = 400  # of the log
_LONGEST: Final = (
    4000  # characters of any line, and lines of a mount: its daemon may be another user's, and say anything
)
_MOST_LINES: Final = 300
_PARTS: Final = ("*.py", "docs/*.md")  # of the package: whose words may stay


def report_text(order: Order, found: Examination) -> str:
    """The whole of it, redacted."""
    known = known_private(order.config, _mounts(found), has_wrong_settings=order.refusal is not None)
    redactor = Redactor(known, vocabulary())
    return "".join(f"{redactor.clean(line[:_LONGEST])}\n" for line in _lines(order, found))


@cache
def vocabulary() -> Set[str]:
    """The words of vbnfs's own modules and pages, in small letters."""
    package = Path(vbnfs.__file__).parent
    pages = package if (package / "docs").is_dir() else package.parent  # in a wheel, and in a clone
    files = [*package.rglob(_PARTS[0]), *pages.glob(_PARTS[1])]
    found: set[str] = set()
    for file in files:
        found.update(re.findall(r"\w+", file.read_text(encoding="utf-8", errors="replace").casefold()))
    return found


def _lines(order: Order, found: Examination) -> Iterator[str]:
    yield f"vbnfs doctor, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield "What is private is taken out: names, paths, servers, secrets, and words that are not vbnfs's own."
    machine = found.facts.get("machine")
    if isinstance(machine, MachineFacts) and machine.distribution:
        yield f"system: {machine.distribution}"
    yield from ("", "Findings", "")
    for one in found.results:
        remedy = f"; remedy: {one.finding.remedy}" if one.finding.remedy else ""
        yield f"{one.finding.level.value:<9} {one.check:<13} {one.finding.text}{remedy}"
    yield from ("", "Settings that are not the defaults", "")
    yield from _setting_lines(order.config)
    yield from ("", "Variables that are set", "")
    yield ", ".join(sorted(name for name in variables() if _VARIABLES.fullmatch(name))) or "none"
    for mount in _mounts(found):
        yield from ("", f"The mount {mount.mountpoint}", "", *islice(_mount_lines(mount), _MOST_LINES))
    disk = found.facts.get("disk")
    if isinstance(disk, DiskFacts) and disk.log_lines:
        yield from ("", "The end of the log", "", *filter(None, map(_log_line, disk.log_lines)))


def _mounts(found: Examination) -> tuple[MountFacts, ...]:
    """Those that were found, if they could be."""
    mounts = found.facts.get("mounts")
    return mounts if isinstance(mounts, tuple) else ()


def _setting_lines(config: Config) -> Iterator[str]:
    defaults = load_config(command_line={}, environ={}, config_file=Path("/dev/null"))
    for setting in SETTINGS:
        value = getattr(config, setting.field)
        if value != getattr(defaults, setting.field):
            yield f"{setting.name}: {_text(setting, value)}"


def _text(setting: Setting, value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if setting.field.endswith("_bytes") and isinstance(value, int) else str(value)


def _mount_lines(mount: MountFacts) -> Iterator[str]:
    if mount.status is None:
        yield f"it gives no status: {mount.failure}"
        return
    for name, value in sorted(mount.status.items()):
        yield from _value_lines(name, value)


def _value_lines(name: str, value: Any) -> Iterator[str]:
    """A value of a status; of figures those that are not 0."""
    if isinstance(value, Mapping):
        for inner, one in sorted(value.items()):
            if one not in (None, 0, []):
                yield from _value_lines(f"{name}: {inner}", one)
    elif isinstance(value, list):
        yield f"{name}: {len(value):,}"
    elif value is not None and name != "pid":
        yield f"{name}: {value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{name}: {value}"


def _log_line(line: str) -> str:
    """A line of the log: when, how grave, what, why; '' for one that is not a daemon's."""
    try:
        fields = json.loads(line)
        words = [str(fields[name]) for name in _OF_THE_LOG if fields.get(name)]
    except (ValueError, TypeError, AttributeError):
        return ""
    if "timestamp" in fields:
        words[0] = words[0][:_SECONDS].replace("T", " ")
    return " ".join(words)[:_LONGEST_LINE]
