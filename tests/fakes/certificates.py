"""Certificates that sign themselves, made by the program openssl."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, which is its own authority, and its key."""

    path: Path
    key_path: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key_path)
        return context


def make_certificate(directory: Path, *names: str) -> Certificate:
    """A new certificate for `names` (`DNS:*.example.com`, `IP:127.0.0.1`) in an existing directory."""
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(made.key_path), "-out", str(made.path), "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", f"subjectAltName={','.join(names)}"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]  # asked for from Python 3.13 on
    subprocess.run(command, check=True, capture_output=True)
    return made
