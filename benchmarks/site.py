"""What the size of a site cache's slices costs and saves, with a proxy as `vbnfs site-cache` configures it.

    python -m benchmarks.site DIR [--rounds N] [--slices SIZE,...] [--scale PART] [--copy-mib N] [--clients N]
                              [--megabits N] [--program nginx|trafficserver]

Only root can run it; all of it is in namespaces of its own. The origin sends its first byte after 20 ms, over a link
of 100 Mbit/s that all share (far_origin.py). A session as `script/bench` has them (`--scale 1`: 1 GB) is opened by
h5py in a real mount whose cache is empty: every object and attribute, and one unit's spike times. Then a file of
noise is read from its beginning to its end. *Cold*: the site cache is empty; *warm*: it has all of that. Then many
clients ask for the same ranges of 256 KiB at the same moment, one range after the other. The sizes take turns,
`--rounds` times; medians are printed, as docs/scale.md has them. With nginx, the origin speaks TLS at last, and its
connections are counted.
"""

import argparse
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import h5py

from benchmarks.far_origin import ADDRESS, HOST, FarOrigin, alone, far_origin, settle
from benchmarks.place import Place
from benchmarks.site_clients import ask_together, ask_whole
from benchmarks.speed.files import SESSION, make_files
from benchmarks.speed.shapes import SHAPES
from tests.fakes.name_server import NAME_SERVER, NameServer
from tests.fixtures_mount import run_vbnfs
from tests.scenarios.site.proxies import ENGINES, Proxy
from vbnfs.blocks import BLOCK_BYTES

FIRST_BYTE_SECONDS: Final = 0.02
NOISE: Final = "noise.nwb"
DIRECT: Final = "no site cache"
_MIB: Final = 1 << 20
_APART_BYTES: Final = 4 * _MIB  # ranges of many clients: no two of them in one slice
_CHAIN: Final = 12  # ranges that each client asks for
_PROJECT: Final = "visual-behavior-neuropixels"

Change = Callable[[str], str]
Figures = Iterator[tuple[str, float]]  # what was measured, and its figure


class Bench:
    """Measures in a folder, before one origin that serves `directory`/plain."""

    def __init__(
        self, directory: Path, origin: FarOrigin, *, clients: int, program: str, ca_bundle: Path | None = None
    ) -> None:
        self._place = Place(directory, endpoint_url=origin.url)
        self._start = ENGINES[program]
        self._origin = origin
        self._clients = clients
        trusted = [] if ca_bundle is None else [f"--ca-bundle={ca_bundle}"]
        self._options = [f"--endpoint-url={origin.url}", *trusted]

    def round(self, size: str) -> Figures:
        """One round of one size of slices, or of `DIRECT`."""
        if size == DIRECT:
            yield from self._mounted("", "cold")
            return
        with self.proxy(f"--slice={size}") as proxy:
            for state in ("cold", "warm"):
                yield from self._mounted(f"http://127.0.0.1:{proxy.port}", state)
        with self.proxy(f"--slice={size}") as proxy:
            yield from self._together(proxy)

    def _mounted(self, site_cache: str, state: str) -> Figures:
        self._place.options = ["--site-cache", site_cache] if site_cache else []
        shutil.rmtree(self._place.cache, ignore_errors=True)
        self._place.mount()
        try:
            top = self._place.mountpoint(0)
            for name, work in (("open", open_session), ("copy", copy_file)):
                (sent_before, requests), asked, began = self._origin.sent(), self._asked_bytes(), perf_counter()
                size_bytes = work(top)
                seconds = perf_counter() - began
                yield f"{name}, {state}", size_bytes / seconds / 1e6 if size_bytes else seconds
                if state == "cold":
                    sent, requested = self._origin.sent()
                    yield f"{name}, asked for", (self._asked_bytes() - asked) / _MIB
                    yield f"{name}, sent", (sent - sent_before) / _MIB
                    yield f"{name}, requests", requested - requests
        finally:
            self._place.clear()

    def _asked_bytes(self) -> int:
        return int(self._place.status()["metrics"]["received_bytes"])

    def _together(self, proxy: Proxy) -> Figures:
        """Clients that ask for the same ranges: one alone, all in the same order, each in an order of its own."""
        size_bytes, name = max(((self._place.plain / name).stat().st_size, name) for name in (SESSION, NOISE))
        starts, path = apart(size_bytes, 3 * _CHAIN), self.path(name)
        for number, (order, clients) in enumerate((("one", 1), ("same", self._clients), ("own", self._clients))):
            sent, _ = self._origin.sent()
            waits = ask_together(proxy.port, path, starts[number::3], clients, shuffled=order == "own")
            yield f"{order}, p50", waits.quantile(0.5)
            yield f"{order}, p99", waits.quantile(0.99)
            yield f"{order}, slowest", waits.slowest
            yield f"{order}, origin's bytes", (self._origin.sent()[0] - sent) / (len(starts[number::3]) * BLOCK_BYTES)

    def whole(self, change: Change) -> tuple[float, int]:
        """MB/s of a file asked for by one request, and how many connections to the origin that took."""
        with self.proxy(change=change) as proxy:
            before = self._origin.report()["connections"]
            seconds = ask_whole(proxy.port, self.path(NOISE))
            connections = self._origin.report()["connections"] - before
        return (self._place.plain / NOISE).stat().st_size / seconds / 1e6, connections

    def path(self, name: str) -> str:
        """What a client asks a site cache for."""
        done = run_vbnfs("urls", *self._options, "--cache-dir", self._place.path / "urls")
        [url] = [urlsplit(word) for word in done.stdout.split() if f"{_PROJECT}/{name}?" in word]
        return f"{url.path}?{url.query}"

    @contextmanager
    def proxy(self, *options: str, change: Change = str) -> Iterator[Proxy]:
        """A site cache that has nothing yet."""
        directory = self._place.path / "proxy"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        changes = {} if change is str else {"change": change}
        with self._start(directory, *self._options, *options, **changes) as proxy:
            yield proxy


def open_session(top: Path) -> int:
    """Every object with its attributes, and one unit's spike times; 0, since the time alone counts."""
    with h5py.File(top / SESSION) as file:
        file.visititems(lambda _, item: dict(item.attrs) and None)
        units = file["units"]
        units["spike_times"][: units["spike_times_index"][0]]
    return 0


def copy_file(top: Path) -> int:
    """The file of noise; its bytes."""
    count = 0
    with (top / NOISE).open("rb", buffering=0) as file:
        while piece := file.read(_MIB):
            count += len(piece)
    return count


def apart(size_bytes: int, count: int) -> list[int]:
    """Where blocks begin, at most `count` of them, each in another part of a file; in random order (pure)."""
    chance = random.Random(1)
    parts = range(0, size_bytes - _APART_BYTES, _APART_BYTES)
    return [
        part + BLOCK_BYTES * chance.randrange(_APART_BYTES // BLOCK_BYTES)
        for part in chance.sample(parts, min(count, len(parts)))
    ]


def by_a_variable(endpoint_url: str) -> Change:
    """The configuration with the name in a variable, which nginx looks up by itself, instead of `upstream`."""
    server = urlsplit(endpoint_url).netloc

    def changed(text: str) -> str:
        place = "      proxy_pass https://bucket"
        assert place in text
        before, _, after = text.partition(place)
        named = (
            f"      resolver {NAME_SERVER} ipv6=off;\n      set $server {server};\n      proxy_pass https://$server"
        )
        return f"{before}{named}$request_uri;{after.partition(';')[2]}"

    return changed


def make_place(directory: Path, *, scale: float, copy_mib: int) -> None:
    """`directory`/plain: a session, and a file of noise."""
    files = make_files(directory, shape=SHAPES["session"], scale=scale, seed=1)
    session = directory / "plain" / SESSION
    session.parent.mkdir(parents=True, exist_ok=True)
    session.unlink(missing_ok=True)
    session.hardlink_to(files.path(SESSION))
    (directory / "plain" / NOISE).write_bytes(random.Random(2).randbytes(copy_mib * _MIB))


def rounds(bench: Bench, sizes: Sequence[str], count: int) -> Mapping[str, Mapping[str, float]]:
    """The medians by size and by what was measured; the sizes take turns."""
    found: dict[str, dict[str, list[float]]] = {size: defaultdict(list) for size in sizes}
    for number in range(count):
        for size in sizes:
            for name, figure in bench.round(size):
                found[size][name].append(figure)
            print(f"round {number + 1}, {size}", file=sys.stderr, flush=True)
    return {size: {name: median(figures) for name, figures in each.items()} for size, each in found.items()}


def table(found: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """A table in Markdown: a line for each size that has any of the figures (pure)."""
    lines = [f"| slices | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for size, figures in found.items():
        if figures.keys() & set(names):
            cells = [f"{figures[name]:.2f}" if name in figures else "" for name in names]
            lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


_OPENED: Final = ("open, cold", "open, warm", "open, asked for", "open, sent", "open, requests")
_COPIED: Final = ("copy, cold", "copy, warm", "copy, asked for", "copy, sent", "copy, requests")
_SHARED: Final = tuple(f"{who}, {what}" for who in ("one", "same", "own") for what in ("p50", "p99", "slowest"))
_SENT: Final = tuple(f"{who}, origin's bytes" for who in ("one", "same", "own"))


def main() -> int:
    """Measure, and print."""
    wanted = _arguments()
    if not wanted.inside:
        return alone("benchmarks.site", sys.argv[1:])
    directory: Path = wanted.directory
    make_place(directory, scale=wanted.scale, copy_mib=wanted.copy_mib)
    settle(directory)
    far = {"first_byte_seconds": FIRST_BYTE_SECONDS, "megabits": wanted.megabits}
    with far_origin(directory, **far) as origin:
        bench = Bench(directory, origin, clients=wanted.clients, program=wanted.program)
        found = rounds(bench, [DIRECT, *wanted.slices.split(",")], wanted.rounds)
    for names in (_OPENED, _COPIED, _SHARED, _SENT):
        print(f"\n{table(found, names)}", flush=True)
    if wanted.program == "nginx":
        for name, rate, connections in _handshakes(directory, **far):
            print(f"\n{name}: {rate:.2f} MB/s, {connections} connections", flush=True)
    return 0


def _handshakes(directory: Path, **far: float) -> Iterator[tuple[str, float, int]]:
    """The name in `upstream` and in a variable: MB/s and connections of a file by TLS."""
    (certificates := directory / "tls").mkdir(exist_ok=True)
    bundle = certificates / "certificate.pem"
    with (
        far_origin(directory, **far, certificates=certificates) as origin,
        NameServer(hangs=False, addresses={HOST: [ADDRESS]}),
    ):
        bench = Bench(directory, origin, clients=1, program="nginx", ca_bundle=bundle)
        for name, change in (("upstream", str), ("a variable", by_a_variable(origin.url))):
            yield name, *bench.whole(change)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", default="256K,512K,1M,2M,4M")
    parser.add_argument("--scale", type=float, default=0.25, help="of the session: 1 is 1 GB")
    parser.add_argument("--copy-mib", type=int, default=64, help="of the file of noise")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--megabits", type=float, default=100.0, help="a second, of the link to the origin")
    parser.add_argument("--program", choices=ENGINES, default="nginx")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
