"""The options that libcurl gets, as its TLS library takes them."""

import pycurl
import pytest

from vbnfs.s3 import curl_options
from vbnfs.s3.curl_options import Authorities, takes_folders
from vbnfs.s3.trust import Trust

NOT_BUILT_IN = 4


class WithoutFolders:
    """A handle of a libcurl with Windows' TLS."""

    def unsetopt(self, option: int) -> None:
        if option == pycurl.CAPATH:
            raise pycurl.error(NOT_BUILT_IN, "not found built-in")


def test_a_library_without_folders_of_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """libcurl says so; then no option of a folder is given, and where nothing is trusted, an empty file is."""
    assert takes_folders()
    assert set(Authorities(Trust()).options) == {pycurl.CAPATH, pycurl.PROXY_CAPATH}
    takes_folders.cache_clear()
    monkeypatch.setattr(curl_options.pycurl, "Curl", WithoutFolders)
    assert not takes_folders()
    assert set(Authorities(Trust()).options) == {pycurl.CAINFO, pycurl.PROXY_CAINFO}
    takes_folders.cache_clear()
