"""Read a file's bytes in order, with a library that users have, in a process of its own: run by .venv-bench's Python.

    python streams.py LIBRARY URL --bytes N [--connections N] [--file FILE] [--wait] [--digest]

Prints {"seconds": ..., "processor_seconds": ..., "digest": ...}, without what importing takes. With --wait it first
prints a line when it has imported what it needs, and begins when its standard input ends. A library that makes many
connections of its own takes N of them where it can be given a number.
"""

import argparse
import hashlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import addresses
from addresses import REGION, endpoint

Take = Callable[[Any], object]
PIECE_BYTES = 1 << 20
THROUGHPUT_GBPS = 10.0  # the default of both clients of AWS's common runtime


def bucket_and_key(url: str) -> tuple[str, str]:
    """Of an address in path style."""
    bucket, _, key = urlsplit(url).path.removeprefix("/").partition("/")
    return bucket, key


def with_file_object(options: argparse.Namespace, take: Take) -> None:
    """Pieces of the library's file object."""
    file, left = addresses.LIBRARIES[options.library].open(options.url), options.bytes
    while left and (data := file.read(min(PIECE_BYTES, left))):
        take(data)
        left -= len(data)


def with_boto3(options: argparse.Namespace, take: Take) -> None:
    """One GetObject whose body goes to a file, as in AllenSDK's S3CloudCache."""
    bucket, key = bucket_and_key(options.url)
    botocore = sys.modules["botocore"]
    unsigned = botocore.config.Config(signature_version=botocore.UNSIGNED, s3={"addressing_style": "path"})
    client = sys.modules["boto3"].client(
        "s3", endpoint_url=endpoint(options.url), region_name=REGION, config=unsigned
    )
    body = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{options.bytes - 1}")["Body"]
    with options.file.open("wb") as file:
        for piece in body.iter_chunks():  # of 1 KiB by default, which AllenSDK leaves
            file.write(piece)
            take(piece)


def with_awscrt(options: argparse.Namespace, take: Take) -> None:
    """One request, which AWS's common runtime cuts into parts; its bodies come to a function, in order."""
    s3, io, http = (sys.modules[f"awscrt.{name}"] for name in ("s3", "io", "http"))
    tls = None
    if options.url.startswith("https:"):
        trust = io.TlsContextOptions()
        trust.override_default_trust_store_from_path(None, os.environ["SSL_CERT_FILE"])
        tls = io.ClientTlsContext(trust).new_connection_options()
    client = s3.S3Client(
        region=REGION,
        tls_mode=s3.S3RequestTlsMode.ENABLED if tls else s3.S3RequestTlsMode.DISABLED,
        tls_connection_options=tls,
        throughput_target_gbps=THROUGHPUT_GBPS,
        max_active_connections_override=options.connections,
    )
    parts = urlsplit(options.url)
    headers = http.HttpHeaders([("host", parts.netloc), ("range", f"bytes=0-{options.bytes - 1}")])
    request = http.HttpRequest("GET", parts.path, headers)

    def on_body(chunk: Any, offset: int, **_: Any) -> None:
        take(chunk)

    client.make_request(type=s3.S3RequestType.GET_OBJECT, request=request, on_body=on_body).finished_future.result()


def with_mountpoint(options: argparse.Namespace, take: Take) -> None:
    """The client of mountpoint-s3, which is AWS's common runtime behind Rust. It chooses its own connections."""
    bucket, key = bucket_and_key(options.url)
    client = sys.modules["s3torchconnectorclient._mountpoint_s3_client"].MountpointS3Client(
        REGION,
        throughput_target_gbps=THROUGHPUT_GBPS,
        unsigned=True,
        endpoint=endpoint(options.url),
        force_path_style=True,
    )
    for piece in client.get_object(bucket, key, start=0, end=options.bytes):
        take(piece)


LIBRARIES: dict[str, tuple[Callable[[argparse.Namespace, Take], None], tuple[str, ...]]] = {
    **{name: (with_file_object, library.modules) for name, library in addresses.LIBRARIES.items()},
    "boto3": (with_boto3, ("boto3", "botocore.config")),
    "awscrt": (with_awscrt, ("awscrt.s3", "awscrt.io", "awscrt.http")),
    "mountpoint-client": (with_mountpoint, ("s3torchconnectorclient._mountpoint_s3_client",)),
}


def main() -> None:
    """Read, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=list(LIBRARIES))
    parser.add_argument("url")
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--file", type=Path, default=Path("/dev/null"))
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--digest", action="store_true")
    options = parser.parse_args()
    read, modules = LIBRARIES[options.library]
    for name in modules:
        importlib.import_module(name)
    digest, took_bytes = hashlib.blake2b(), 0

    def take(data: Any) -> None:
        nonlocal took_bytes
        took_bytes += len(data)
        if options.digest:
            digest.update(data)

    if options.wait:
        print("ready", flush=True)
        sys.stdin.read()
    began, processor = time.monotonic(), time.process_time()
    read(options, take)
    report = {"seconds": time.monotonic() - began, "processor_seconds": time.process_time() - processor}
    if took_bytes != options.bytes:
        sys.exit(f"{options.library} brought {took_bytes} of {options.bytes} bytes")
    print(json.dumps({**report, "digest": digest.hexdigest()}))


if __name__ == "__main__":
    main()
