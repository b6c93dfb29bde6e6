"""What a mount does now, as lines of a screen (pure).

Rates are the differences of two samples. A line is a sequence of texts with styles, in rich's words, which a terminal
shows in colours and a pipe plainly.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.cli.progress import fill_text
from vbnfs.cli.render import Span, ago, escape, short_size, size
from vbnfs.figures import Fetch, Figures, Fill, Reader
from vbnfs.histogram import bound_of

_BAR: Final = 20  # characters
_FULL: Final = 0.9
_COLUMNS: Final = ("PROGRAM", "PID", "READ BY", "A SECOND", "READS/S", "HITS", "IN ALL", "FILE")
_WIDTHS: Final = (15, 8, 7, 9, 8, 6, 7)  # of all but the last; those of texts stand left
_LEFT: Final = frozenset({0, 2})
_LEAST_FILE: Final = 20

Line = Sequence[Span]


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures, and those of `seconds` before; none before the second time."""

    now: Figures
    before: Figures | None = None
    seconds: float = 0.0

    def count(self, name: str) -> int:
        """How much a counter has grown."""
        before = self.before.metrics.get(name, 0) if self.before is not None else 0
        return max(0, self.now.metrics.get(name, 0) - before)

    def rate(self, name: str) -> float | None:
        """How much it grows in a second; None before the second time."""
        return self.count(name) / self.seconds if self.before is not None and self.seconds > 0 else None


def mount_lines(sample: Sample, *, width: int | None = None, most_rows: int | None = None) -> Iterator[Line]:
    """One mount. No line is longer than `width`, and there are no more than `most_rows` readers."""
    lines = [*_head(sample), *_readers(sample, width, most_rows)]
    return (_cut(line, width) for line in lines)


def silent_lines(mountpoint: str, reason: str, *, width: int | None = None) -> Iterator[Line]:
    """A mount that does not answer."""
    return (_cut(line, width) for line in ([(escape(mountpoint), "bold")], [(f"  {escape(reason)}", "red")]))


def fetch_lines(fetch: Fetch, *, width: int | None = None) -> Iterator[Line]:
    """What is fetched without a mount; the rate is that since it began."""
    who = f"{fetch.program or 'a program'} (pid {fetch.pid})"
    what = f"  {fetch.dataset or 'a dataset'}, fetched by {who} without a mount"
    rate = fetch.fill.done_bytes / fetch.seconds if fetch.seconds > 0 else 0.0
    head = [(escape(fetch.cache_dir), "bold"), (escape(what), "")]
    return (_cut(line, width) for line in (head, _fact("fetching", fill_text(fetch.fill, rate))))


def _head(sample: Sample) -> Iterator[Line]:
    now = sample.now
    server = ("S3 is not reached", "red") if now.is_offline else ("S3 is reached", "green")
    what = f"{now.dataset or 'a dataset'} {now.default_version}, mounted {ago(now.uptime_seconds)}"
    yield [(escape(now.mountpoint), "bold"), (f"  {escape(what)}: ", ""), server]
    yield _fact("reads", f"{_speed(sample, 'read_bytes')}, {_often(sample, 'read_requests')}; {_hits(sample)}")
    if waits := _waits(sample):
        yield _fact("waiting", waits)
    yield _fact("from S3", _requests(sample))
    yield _fact("cache", *_cache(now))
    if now.coming_blocks:
        gets = f", {now.prefetches} requests ahead of readers" if now.prefetches else ""
        yield _fact("coming", f"{now.coming_blocks:,} blocks of 256 KiB{gets}")
    for index, fill in enumerate(now.fills):
        yield _fact("fetching", _fill(fill, _before(sample, index), sample.seconds))
    if now.server_problem:
        yield _fact("problem", now.server_problem, "red")
    if now.cache_problem:
        yield _fact("not kept", now.cache_problem, "red")
    for failure in now.failures:
        times = "" if failure.count == 1 else f", {failure.count:,} times"
        yield _fact("error", f"{ago(failure.seconds_ago)}{times}: {failure.text}", "red")


def _fact(name: str, text: str, style: str = "") -> Line:
    return [(f"  {name:<9}", "dim"), (escape(text), style)]


def _speed(sample: Sample, name: str) -> str:
    rate = sample.rate(name)
    return f"{size(sample.now.metrics.get(name, 0))} in all" if rate is None else f"{size(int(rate))}/s"


def _often(sample: Sample, name: str) -> str:
    rate = sample.rate(name)
    return f"{sample.now.metrics.get(name, 0):,}" if rate is None else f"{_number(rate)} a second"


def _hits(sample: Sample) -> str:
    """The share of reads that did not wait for S3: since the sample before if there were any, else in all."""
    reads, fetched, since = sample.count("read_requests"), sample.count("fetched_reads"), ""
    if not reads:
        reads, since = sample.now.metrics.get("read_requests", 0), " since mounting"
        fetched = sample.now.metrics.get("fetched_reads", 0)
    return f"hit ratio {_percent(reads, fetched)}{since}"


def _percent(reads: int, fetched: int) -> str:
    return f"{100 * max(0, reads - fetched) / reads:.1f} %" if reads else "-"


def _waits(sample: Sample) -> str | None:
    """How long reads waited, since the sample before."""
    before = sample.before.waits.counts if sample.before is not None else [0] * len(sample.now.waits.counts)
    counts = [max(0, new - old) for new, old in zip(sample.now.waits.counts, before, strict=True)]
    bounds = [(name, bound_of(share, counts)) for name, share in (("half of them", 0.5), ("99 %", 0.99))]
    return ", ".join(f"{name} {_within(bound)}" for name, bound in bounds if bound is not None) or None


def _within(bound: float) -> str:
    return "longer than 30 s" if bound == float("inf") else f"up to {_time(bound)}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def _requests(sample: Sample) -> str:
    now = sample.now
    text = f"{_speed(sample, 'received_bytes')}, {_often(sample, 'range_requests')}"
    if now.first_byte_seconds:
        text += f"; first byte after {now.first_byte_seconds * 1000:.0f} ms"
    if failed := now.metrics.get("failed_requests", 0):
        text += f"; {failed:,} failed since mounting"
    return text


def _cache(now: Figures) -> tuple[str, str]:
    share = min(1.0, now.cache_usage_bytes / now.cache_size_bytes) if now.cache_size_bytes else 1.0
    bar = "#" * round(share * _BAR)
    usage = f"{size(now.cache_usage_bytes)} of {size(now.cache_size_bytes)} ({100 * share:.0f} %)"
    return f"[{bar:.<{_BAR}}] {usage}; room for {size(now.cache_available_bytes)}", "yellow" if share > _FULL else ""


def _before(sample: Sample, index: int) -> Fill | None:
    return sample.before.fills[index] if sample.before is not None and index < len(sample.before.fills) else None


def _fill(fill: Fill, before: Fill | None, seconds: float) -> str:
    rate = (fill.done_bytes - before.done_bytes) / seconds if before is not None and seconds > 0 else 0.0
    return fill_text(fill, rate)


def _readers(sample: Sample, width: int | None, most_rows: int | None) -> Iterator[Line]:
    now = sample.now
    if not now.readers:
        yield [("  no program has a file open", "dim")]
        return
    before = {_key(one): one for one in sample.before.readers} if sample.before is not None else {}
    rows = now.readers if most_rows is None else now.readers[:most_rows]
    room = None if width is None else max(_LEAST_FILE, width - 2 - sum(_WIDTHS) - len(_WIDTHS))
    yield [(f"  {_row(_COLUMNS)}", "bold")]
    for one in rows:
        cells = _cells(one, before.get(_key(one)), sample.seconds, room)
        yield [(f"  {_row(cells)}", "" if one.is_open else "dim")]
    if left := len(now.readers) - len(rows):
        yield [(f"  and {left:,} more", "dim")]


def _key(reader: Reader) -> tuple[str | None, int, str]:
    return reader.program, reader.pid, reader.file


def _cells(one: Reader, before: Reader | None, seconds: float, room: int | None) -> Iterator[str]:
    reads, count_bytes, fetched = one.reads, one.read_bytes, one.fetched_reads
    if before is not None:
        reads, count_bytes = max(0, reads - before.reads), max(0, count_bytes - before.read_bytes)
        fetched = max(0, fetched - before.fetched_reads)
    is_seen, has_rate = one.read_by != "kernel", seconds > 0
    yield escape(one.program or "?")[: _WIDTHS[0]]
    yield str(one.pid)
    yield escape(one.read_by)[: _WIDTHS[2]]
    yield f"{short_size(int(count_bytes / seconds))}" if is_seen and has_rate else "-"
    yield _number(reads / seconds) if is_seen and has_rate else "-"
    yield _percent(reads, fetched).replace(" ", "") if is_seen else "-"
    yield short_size(one.read_bytes) if is_seen or one.read_bytes else "-"
    yield _shortened(escape(one.file), room) + ("" if one.is_open else "  (closed)")


def _row(cells: Iterable[str]) -> str:
    *narrow, last = cells
    columns = enumerate(zip(narrow, _WIDTHS, strict=True))
    return " ".join(f"{one:<{w}}" if i in _LEFT else f"{one:>{w}}" for i, (one, w) in columns) + f" {last}"


def _shortened(path: str, room: int | None) -> str:
    """The end of a path says more than its beginning."""
    return path if room is None or len(path) <= room else f"...{path[3 - room :]}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _cut(line: Line, width: int | None) -> Line:
    if width is None:
        return line
    found: list[Span] = []
    for text, style in line:
        if part := text[:width]:
            found.append((part, style))
            width -= len(part)
    return found
