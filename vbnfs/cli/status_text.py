"""A mount's status as a person reads it, also one who has not used it for a year: lines of text (pure).

First stands whether it works. Then come sections, each with a line for each fact: its name, and the fact in words.
What is wrong comes last, with what to do about it. The status is that of `access/mount_status.py`; a daemon of an
older vbnfs reports less, and so does one of another user's.
"""

import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from vbnfs import __version__
from vbnfs.cli.render import ago, escape, files, size
from vbnfs.rate import rate_text

_ROUTE: Final = {"proxy": "proxy", "trusted": "certificates"}  # a line, and what of the status it shows
_WIDTH: Final = 11  # of a fact's name

Status = Mapping[str, Any]
Facts = dict[str, str]


def status_lines(status: Status) -> Iterator[str]:
    """One mount's status, escaped."""
    yield escape(status["mountpoint"])
    yield f"  {escape(_headline(status))}"
    sections = {"The dataset": _dataset(status), **_sections(status), "What is wrong, or was": _wrong(status)}
    for heading, facts in sections.items():
        if facts:
            yield f"  {heading}"
            yield from (f"    {name:<{_WIDTH}} {escape(text)}" for name, text in facts.items())
    yield f"  {escape(_next(status))}"


def _headline(status: Status) -> str:
    """Whether it works, in one line."""
    if status.get("is_offline_wanted"):
        server = "S3 is not asked, as --offline wants it: what is cached can be read, and nothing else"
    elif status["is_offline"]:
        server = "S3 is not reached: what is cached can be read, and nothing else"
    else:
        server = "S3 is reached"
    seconds = status.get("uptime_seconds")  # a daemon of an older vbnfs does not report it
    since = "" if seconds is None else f", mounted {ago(seconds)}"
    return f"{'works' if _is_well(status) else 'works in part'}{since}: {server}"


def _is_well(status: Status) -> bool:
    """Whether there is nothing to be done now: an error after which something was read is over."""
    is_cut_off = status["is_offline"] and not status.get("is_offline_wanted")
    has_failed = bool(status.get("last_error")) and not status.get("read_bytes_since_error")
    is_wrong = status.get("cache_problem") or status["refused"] or status.get("metrics", {}).get("mismatched_files")
    is_unwritten = (status.get("record") or {}).get("problem")
    return not (is_cut_off or has_failed or is_wrong or is_unwritten)


def _dataset(status: Status) -> Facts:
    dataset = status.get("dataset")  # nor this
    facts = {"dataset": str(dataset)} if dataset else {}
    facts["versions"] = f"{', '.join(status['versions'])}  (at the top: {status['default_version']})"
    if newer := status.get("newer_version"):
        top = status["default_version"]
        facts["newer"] = f"{newer} is there; mount again to have it at the top ('vbnfs diff {top} {newer}' compares)"
    server = status["endpoint_url"] or "AWS"
    facts["from"] = f"s3://{status['bucket']}/{status['project']} by {server}{_offline_text(status)}"
    facts |= {label: status[name] for label, name in _ROUTE.items() if status.get(name)}
    if mirror := status.get("mirror"):
        facts["mirror"] = f"{mirror}  {status['metrics'].get('mirror_blocks', 0):,} blocks"
    if servers := status.get("site_cache"):
        facts["site cache"] = "; ".join(map(_site_cache, servers))
    return facts


def _site_cache(server: Mapping[str, Any]) -> str:
    failed = f", failed last: {server['problem']}; S3 is asked" if server["problem"] else ""
    return f"{server['url']}  {server['blocks']:,} blocks{failed}"


def _sections(status: Status) -> dict[str, Facts]:
    if "metrics" not in status:  # another user's mount, of which less is known
        whose = f"{status['mounted_by']}, whose cache it reads: 'vbnfs versions' counts your own"
        return {
            "The cache": {"mounted by": whose, "cache": _usage(status)},
            "The daemon": {"daemon": _daemon(status)},
        }
    return {
        "Read since it was mounted": _reads(status),
        "The cache": _cache(status),
        "The daemon": {"daemon": _daemon(status), "log": status["log_file"] or _journal(status)},
    }


def _reads(status: Status) -> Facts:
    counts = status["metrics"]
    read, received = size(counts["read_bytes"]), size(counts["received_bytes"])
    facts = {"read": f"{read} by programs, {received} from S3 in {counts['range_requests']:,} requests"}
    return facts | _limit(status.get("limit_rate")) | _passthrough(status.get("passthrough")) | _record(status)


def _cache(status: Status) -> Facts:
    facts = {"cache": f"{status['cache_dir']}  {_usage(status)}"}
    if (reserve := status.get("cache_reserve_bytes")) is not None:
        free = size(status.get("cache_free_bytes"))
        facts["cache"] += f"; {free} free on its disk, of which it leaves {size(reserve)}"
    if also := status.get("cache_also"):
        facts["also read"] = ", ".join(also)
    return facts


def _usage(status: Status) -> str:
    return f"{size(status['cache_usage_bytes'])} of {size(status['cache_size_bytes'])}"


def _daemon(status: Status) -> str:
    text, theirs = f"pid {status['pid']}, vbnfs {status['vbnfs_version']}", status["vbnfs_version"]
    return text if theirs == __version__ else f"{text}; installed is {__version__}: it begins with the next mount"


def _journal(status: Status) -> str:
    return f"on its terminal, or where systemd has started it: journalctl _PID={status['pid']}"


def _limit(report: Status | None) -> Facts:
    """How much S3 may send in a second, and what that holds back now; nothing where it may send any amount."""
    if report is None or report["rate_bytes"] is None:  # None: a daemon of an older vbnfs does not report it
        return {}
    whose = "all processes on this cache together" if report["is_shared"] else "this process alone"
    text = f"{rate_text(report['rate_bytes'])} for {whose}"
    held = {"reads": report["waiting_reads"], "other fetches": report["waiting_others"]}
    if words := [f"{count:,} {name}" for name, count in held.items() if count]:
        text += f"; held back now: {', '.join(words)}"
    return {"limit rate": text}


def _passthrough(report: Status | None) -> Facts:
    """Whether the kernel reads files by itself, or why not, and who keeps it from one."""
    if report is None:  # nor this
        return {}
    if report["reason"] is not None:
        return {"passthrough": f"off, which costs speed alone: {report['reason']}"}
    facts = {"passthrough": f"on; open now and read by the kernel itself: {files(report['open_files'])}"}
    for number, one in enumerate(report["old_handles"]):
        who = one["program"] or "a program that is gone"
        text = f"{one['file']}: {who} (pid {one['pid']}) has it open from before it was checked; close it there"
        facts[f"old handle{_number(number)}"] = text
    return facts


def _record(status: Status) -> Facts:
    """Where what is read is written down."""
    report = status.get("record")  # None: of a mount that keeps none, or nor this
    return {} if report is None else {"record": report["file"]}


def _wrong(status: Status) -> Facts:
    """What does not work, or did not, and what to do about it."""
    facts: Facts = {}
    if problem := status.get("server_problem"):
        facts["problem"] = str(problem)
    if problem := status.get("cache_problem"):
        facts["not kept"] = str(problem)
    if wrong := status.get("metrics", {}).get("mismatched_files"):
        facts["wrong"] = (
            f"{files(wrong)} without the manifest's hash, deleted here; the log says which: read them again"
        )
    facts |= _record_problem(status.get("record") or {})
    for number, reason in enumerate(status["refused"]):
        facts[f"refused{_number(number)}"] = reason
    if error := status.get("last_error"):
        facts |= {"last error": error, **_since_error(status)}
    return facts


def _record_problem(report: Status) -> Facts:
    """Why the record is not written, and what is lost of it."""
    lost = report.get("lost_lines")
    if not report.get("problem") and not lost:
        return {}
    reason = f"cannot be written now: {report['problem']}" if report["problem"] else "could not be written for a time"
    what = f"{lost:,} lines of it are lost" if lost else "nothing of it is lost"
    return {"not written": f"{report['file']} {reason}; {what}"}


def _since_error(status: Status) -> Facts:
    """When the last error was, and what was read since."""
    if (time := status.get("last_error_time")) is None:  # nor this
        return {}
    when, now = datetime.fromisoformat(time).astimezone(), datetime.now(UTC)
    read, received = (status.get(f"{name}_bytes_since_error") or 0 for name in ("read", "received"))
    since = f"{size(read)} were read, {size(received)} of that from S3" if read else "nothing was read"
    return {"it was": f"{ago((now - when).total_seconds())}, at {when:%Y-%m-%d %H:%M:%S}; since then {since}"}


def _next(status: Status) -> str:
    """What to type next, for a user who has forgotten it."""
    folder = shlex.quote(status["mountpoint"])
    if "metrics" not in status:
        return f"'cat {folder}/README.txt' says what is in it"
    return f"'vbnfs top {folder}' shows what goes on, 'vbnfs umount {folder}' takes it away"


def _offline_text(status: Status) -> str:
    if status.get("is_offline_wanted"):
        return " (offline, as --offline asks for: working from what is kept)"
    return " (not reached: working from what is kept)" if status["is_offline"] else ""


def _number(index: int) -> str:
    return "" if index == 0 else str(index + 1)
