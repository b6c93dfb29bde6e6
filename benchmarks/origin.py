"""An S3 server of a folder of files, in a process of its own: fast, far away, slow, or failing.

    .venv/bin/python -m benchmarks.origin PLACE [--failing PART] [--seed N] [--first-byte SECONDS] [--rate MB/S]
                                                [--host ADDRESS] [--tls FOLDER]

Serves PLACE/plain as a dataset with one version. Prints its URL, and an answer to each line of standard input:

    report            a line of JSON: requests by kind, bytes of bodies, connections, and faults by name, all so far
    refuse SECONDS    the same, after it has broken all connections and refused new ones for so long
    silence           the same; from now on it answers nothing by the connections that are open, and makes no faults
    hang SECONDS      the same, after it has answered nothing for so long; from now on it makes no faults
    faults            the same; it makes faults again
"""

import argparse
import json
import mmap
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.fakes.certificates import make_certificate
from tests.fakes.dataset import FakeDataset
from tests.fakes.faults import Mix, NetworkChanges, profile
from tests.fakes.s3_server import FakeS3Server

_MB = 1_000_000


def main() -> None:
    """Serve until standard input ends."""
    wanted = _arguments()
    store, tls = dataset_of(wanted.place / "plain").store, wanted.tls and _context(wanted.tls)
    with FakeS3Server(store, host=wanted.host, tls=tls) as server:
        mix = Mix(wanted.failing, seed=wanted.seed)
        rate = wanted.rate * _MB if wanted.rate else None
        changes = NetworkChanges(server)
        server.behaviours += [profile(first_byte_seconds=wanted.first_byte, bytes_per_second=rate), mix, changes]
        commands: dict[str, Callable[..., None]] = {
            "refuse": lambda seconds: _refuse(server, float(seconds)),
            "silence": changes.silence,
            "hang": lambda seconds: changes.hang(float(seconds)),
        }
        print(server.endpoint_url, flush=True)
        kinds: Counter[str] = Counter()
        sent = 0
        for line in sys.stdin:
            command, *arguments = line.split()
            mix.is_on = command not in {"silence", "hang"}
            commands.get(command, lambda: None)(*arguments)
            kinds.update(request.kind for request in server.requests)
            sent += server.body_bytes
            server.forget_requests()
            report = {"requests": dict(kinds), "sent_bytes": sent, "faults": dict(mix.counts)}
            print(json.dumps({**report, "connections": server.connections}), flush=True)


def _refuse(server: FakeS3Server, seconds: float) -> None:
    with server.refusing():
        time.sleep(seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=Path)
    parser.add_argument("--failing", type=float, default=0.0, help="part of the requests that meet a fault")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first-byte", type=float, default=0.0, help="seconds until the first byte of an answer")
    parser.add_argument("--rate", type=float, default=0.0, help="MB/s of one connection")
    parser.add_argument("--host", default="127.0.0.1", help="where it listens")
    parser.add_argument("--tls", type=Path, help="a folder, for a certificate that is made there; it speaks TLS then")
    return parser.parse_args()


def _context(directory: Path) -> ssl.SSLContext:
    """With a certificate for s3.test (see far_origin.py), which is its own authority: `certificate.pem`."""
    return make_certificate(directory, "DNS:s3.test").server_context()


def dataset_of(plain: Path) -> FakeDataset:
    """A dataset with the files below a folder, which are mapped and not copied."""
    dataset = FakeDataset()
    files = {}
    for path in sorted(path for path in plain.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            files[str(path.relative_to(plain))] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    dataset.publish("0.1.0", files)
    return dataset


if __name__ == "__main__":
    main()
