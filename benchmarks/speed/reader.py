"""One reading job, in a process of its own, with the libraries that users have: run by .venv-bench's Python.

    python reader.py JOB LOCATION         prints {"seconds": ...}, without what importing takes

JOB: spikes (of one unit, h5py), lfp (ten seconds of one channel, h5py), open (pynwb), whole (every byte), download.
LOCATION: a path, or remfile:URL, fsspec:URL, download:FILE:URL.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore
import fsspec
import h5py
import pynwb
import remfile

PIECE_BYTES = 1 << 20
LFP_SAMPLES = 12_500  # ten seconds


def open_location(location: str) -> Any:
    """What h5py takes: a path or a file object."""
    library, _, address = location.partition(":")
    if library == "remfile":
        return remfile.File(address)
    if library == "fsspec":
        return fsspec.filesystem("http").open(address, block_size=4 << 20)
    return location


def spikes(location: str) -> None:
    """One unit's spike times."""
    with h5py.File(open_location(location), "r") as file:
        index = file["units/spike_times_index"]
        assert len(file["units/spike_times"][index[49] : index[50]])


def lfp(location: str) -> None:
    """Ten seconds of one channel: one value of 4 bytes of each row."""
    with h5py.File(open_location(location), "r") as file:
        probe = next(iter(file["acquisition"].values()))
        series = next(item for item in probe.values() if "data" in item)
        assert len(series["data"][:LFP_SAMPLES, 5]) == LFP_SAMPLES


def open_nwb(location: str) -> None:
    """Open the session as pynwb does, with all its objects."""
    with h5py.File(open_location(location), "r") as file, pynwb.NWBHDF5IO(file=file, mode="r") as io:
        assert len(io.read().units)


def whole(location: str) -> None:
    """Every byte, in order."""
    opened = open_location(location)
    file = Path(opened).open("rb") if isinstance(opened, str) else opened  # noqa: SIM115 - remfile's does not close
    while file.read(PIECE_BYTES):
        pass


def download(location: str) -> None:
    """One GetObject whose body goes to a file, as in AllenSDK's S3CloudCache."""
    _, target, url = location.split(":", 2)
    parts = urlsplit(url)
    bucket, _, key = parts.path.removeprefix("/").partition("/")
    unsigned = botocore.config.Config(signature_version=botocore.UNSIGNED, s3={"addressing_style": "path"})
    client = boto3.client(
        "s3", endpoint_url=f"{parts.scheme}://{parts.netloc}", region_name="us-west-2", config=unsigned
    )
    body = client.get_object(Bucket=bucket, Key=key)["Body"]
    with Path(target).open("wb") as file:
        for piece in body.iter_chunks():  # of 1 KiB by default, which AllenSDK leaves
            file.write(piece)


JOBS = {"spikes": spikes, "lfp": lfp, "open": open_nwb, "whole": whole, "download": download}

if __name__ == "__main__":
    began = time.monotonic()
    JOBS[sys.argv[1]](sys.argv[2])
    print(json.dumps({"seconds": time.monotonic() - began}))
