"""Run by tests with roc-validator's own Python: `validate_crate.py CRATE CONTEXT` prints what is wrong with a crate.

The validator asks for the JSON-LD context of the format, as each reader of a crate does. Here it is a file, so that
nothing but that address is asked for, and that without network.
"""

import io
import sys
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.response import addinfourl

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester
from urllib3 import HTTPResponse

ADDRESS = "https://w3id.org/ro/crate/1.1/context"
HEADERS = {"Content-Type": "application/ld+json"}
CRATE, CONTEXT = sys.argv[1], Path(sys.argv[2]).read_bytes()


def _check(url: str) -> None:
    if url.rstrip("/") != ADDRESS:
        raise OSError(f"not the address of the context: {url}")


class ForUrllib(urllib.request.HTTPSHandler):
    """What urllib asks."""

    def https_open(self, req: urllib.request.Request) -> Any:
        """The context."""
        _check(req.full_url)
        headers = Message()
        for name, value in HEADERS.items():
            headers[name] = value
        response = addinfourl(io.BytesIO(CONTEXT), headers, ADDRESS, 200)
        response.msg = "OK"  # urllib's own error processor reads it
        return response


class ForRequests(BaseAdapter):
    """What requests asks."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """The context."""
        _check(request.url or "")
        raw = HTTPResponse(io.BytesIO(CONTEXT), HEADERS, 200, preload_content=False, request_url=ADDRESS)
        return HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        """Nothing is open."""


urllib.request.install_opener(urllib.request.build_opener(ForUrllib()))
settings = services.ValidationSettings(
    rocrate_uri=CRATE, profile_identifier="ro-crate-1.1", requirement_severity=models.Severity.REQUIRED
)
HttpRequester().session.mount("https://", ForRequests())
result = services.validate(settings)
for issue in result.get_issues():
    print(issue.check.identifier, issue.message)
print(len(result.executed_checks), "checks")
