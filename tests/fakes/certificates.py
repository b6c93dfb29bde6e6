"""Certificates, of their own authority or of another one, made by the program openssl."""

import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

_AUTHORITY = """[ca]
default_ca = one
[one]
database = {directory}/index.txt
new_certs_dir = {directory}
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, which is its own authority or has another one, and its key."""

    path: Path
    key_path: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key_path)
        return context


def make_certificate(
    directory: Path,
    *names: str,
    authority: Certificate | None = None,
    valid_days: tuple[float, float] = (0, 2),
    is_authority: bool = False,
) -> Certificate:
    """A new certificate for `names` (`DNS:*.example.com`, `IP:127.0.0.1`) in an existing directory.

    It signs itself, or `authority` signs it; then it is an authority only if it is to be one. `valid_days` is when it
    is valid, in days from now.
    """
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    is_plain = authority is None and valid_days == (0, 2)
    request = directory / "request.pem"
    command = ["openssl", "req", *(["-x509", "-days", "2"] if is_plain else ["-new"])]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += [
        "-keyout",
        str(made.key_path),
        "-out",
        str(made.path if is_plain else request),
        "-subj",
        "/CN=issued" if authority else "/CN=test",
    ]
    command += ["-addext", f"subjectAltName={','.join(names)}"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]  # asked for from Python 3.13 on
    if not is_plain and (authority is None or is_authority):
        command += ["-addext", "basicConstraints=critical,CA:true"]
    subprocess.run(command, check=True, capture_output=True)
    if not is_plain:
        _sign(directory, request, made, authority, valid_days)
    return made


def _sign(
    directory: Path, request: Path, made: Certificate, authority: Certificate | None, valid_days: tuple[float, float]
) -> None:
    (directory / "index.txt").touch()
    config = directory / "authority.conf"
    config.write_text(_AUTHORITY.format(directory=directory))
    start, end = (f"{datetime.now(UTC) + timedelta(days=days):%Y%m%d%H%M%SZ}" for days in valid_days)
    command = ["openssl", "ca", "-batch", "-notext", "-config", str(config), "-in", str(request)]
    command += ["-out", str(made.path), "-startdate", start, "-enddate", end]
    if authority is None:
        command += ["-selfsign", "-keyfile", str(made.key_path)]
    else:
        command += ["-cert", str(authority.path), "-keyfile", str(authority.key_path)]
    subprocess.run(command, check=True, capture_output=True)
