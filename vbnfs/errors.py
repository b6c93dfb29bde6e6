"""Every exception that vbnfs raises on purpose, and the errno that each becomes at the mount.

    VbnfsError                      EIO
    ├── UsageError                  EINVAL      a setting or an argument is wrong, here and everywhere
    ├── CacheError                  EACCES      the cache directory cannot be used
    ├── MountError                  EIO         the mount could not be made, found or taken away
    ├── NotVerifiedError            EIO         files were to be verified, and not all of them are good and kept
    ├── InstallError                EIO         mount helper or units cannot be put in place, or taken away
    ├── DemoError                   EIO         the demo's server or libraries are missing, or failed
    ├── DatasetError                EIO         what the bucket holds is not a usable dataset
    │   └── ManifestError           EIO         one manifest is refused; the others still mount
    └── StorageError                EIO         S3 did not give what was asked for
        ├── TransportError          EIO         no (whole) answer: refused, reset, truncated, DNS, TLS
        │   └── BusyError           EIO         503, 429, 5xx: the server asks for another try
        │       └── NoDescriptorError EIO       no file can be opened any more: nor a connection
        ├── BadReplyError           EIO         an answer that cannot be used
        │   └── MismatchError       EIO         an answer to another question: wrong range, length, body
        │       └── ChangedError    ESTALE      another object than was listed: its version id or its size
        ├── UntrustedServerError    EIO         a certificate that nobody vouches for
        ├── OfflineError            ENETUNREACH the server cannot be reached, or is not to be asked
        ├── HashMismatchError       EIO         a file that does not have the hash in its manifest
        ├── AccessDeniedError       EACCES      403
        │   └── ListingDeniedError  EACCES      403 for a listing
        ├── ObjectGoneError         ESTALE      404, or the version is not there any more
        │   └── NoBucketError       ESTALE      404 for the bucket itself, or a listing of it
        └── DeadlineError           ETIMEDOUT   time ran out

The message names the thing and, where there is one, the remedy: it is shown to people as it stands. What S3 did not
give has its remedy by class: `told` puts the two together.
"""

import errno
from collections.abc import Iterator
from typing import ClassVar, TypeVar


class VbnfsError(Exception):
    """The root: `errno` is what a FUSE request that meets this error is answered with."""

    errno: ClassVar[int] = errno.EIO


_Error = TypeVar("_Error", bound=VbnfsError)


def root_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to tell of a group that a nursery raised: Ctrl-C, else its first `VbnfsError`; a defect is the group."""
    leaves = list(_leaves(group))
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return KeyboardInterrupt()
    return leaves[0] if all(isinstance(leaf, VbnfsError) for leaf in leaves) else group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


class UsageError(VbnfsError):
    """A setting, an argument or a configuration file is wrong, whatever the state of this machine: exit status 2."""

    errno = errno.EINVAL


class CacheError(VbnfsError):
    """The cache directory cannot be used: not to be made, or others have a hand in it."""

    errno = errno.EACCES


class MountError(VbnfsError):
    """The mount could not be made, found or taken away."""


class NotVerifiedError(VbnfsError):
    """Not all files that were to be verified have the manifest's hash and are kept: `vbnfs verify`, exit status 1."""


class InstallError(VbnfsError):
    """The mount helper or the systemd units could not be put in place, or taken away."""


class DemoError(VbnfsError):
    """The demo's server or libraries are missing, or failed."""


class DatasetError(VbnfsError):
    """What the bucket holds is not a usable dataset."""


class ManifestError(DatasetError):
    """One manifest is refused; the message names the entry that is to blame."""


class StorageError(VbnfsError):
    """S3 did not give what was asked for. `remedy` is what people can do about it."""

    remedy: ClassVar[str] = "look into the log, and try again"


class TransportError(StorageError):
    """No answer, or not the whole of it: worth another try."""

    remedy = "check the network, --endpoint-url and the proxy variables, and try again"


class BusyError(TransportError):
    """The server asks for another try (503 SlowDown, 429, other 5xx).

    `retry_after_seconds` is how long it wants to be left alone, where it says so (RFC 9110, 10.2.3).
    """

    remedy = "the server is overloaded: try again later, or lower --max-connections"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NoDescriptorError(BusyError):
    """No more connections can be opened: too many files are open. It is not the server that is busy, but we are."""

    remedy = "raise the limit of open files (ulimit -n), or lower --max-connections, and try again"


class BadReplyError(StorageError):
    """An answer that cannot be used: another status than was to be expected, not parseable, too large."""

    remedy = "check --region, --endpoint-url and the proxy variables: this is not how S3 answers"


class MismatchError(BadReplyError):
    """An answer to another question: wrong range, length, body. Not believed; another connection may do better."""

    remedy = "a proxy or the server answers wrongly: check --endpoint-url and the proxy variables, and try again"


class ChangedError(MismatchError):
    """Another object than was listed: another version id, another size. If no proxy is to blame, it has changed."""

    errno = errno.ESTALE
    remedy = "read another dataset version, or check --endpoint-url and the proxy variables: something else is there"


class UntrustedServerError(StorageError):
    """Nobody vouches for the server's certificate: it gets no request."""

    remedy = "name the certificates to trust by --ca-bundle; in a network with a login page, log in first"


class OfflineError(StorageError):
    """The server cannot be reached at present, or is not to be asked (--offline)."""

    errno = errno.ENETUNREACH
    remedy = "connect to the network, or leave --offline out"


class HashMismatchError(StorageError):
    """The bytes of a whole file do not have the hash that the manifest gives."""


class AccessDeniedError(StorageError):
    """403: the bucket does not allow this to be read."""

    errno = errno.EACCES
    remedy = "check --bucket, or read it in another dataset version: the bucket's owner forbids this one"


class ListingDeniedError(AccessDeniedError):
    """403 for a listing: nothing is known of this dataset, or not all of it."""

    remedy = "check --bucket and --project: the bucket's owner forbids to list this"


class ObjectGoneError(StorageError):
    """404, or a version id that the bucket does not know (any more)."""

    errno = errno.ESTALE
    remedy = "read another dataset version: 'vbnfs versions' lists those that there are"


class NoBucketError(ObjectGoneError):
    """404 for the bucket, or for a listing: its name, the project's, or the server's address is wrong."""

    remedy = "check --bucket, --project, --region and --endpoint-url"


class DeadlineError(StorageError):
    """The time allowed for an answer ran out."""

    errno = errno.ETIMEDOUT
    remedy = "check the network, or allow more time by --io-timeout"


def copy_error(error: _Error, message: str | None = None) -> _Error:
    """An exception of the same class, caused by `error`; with the same message, or another one.

    Each task that is to raise an error needs its own copy: one object raised in several tasks mixes their tracebacks.
    """
    new = type(error)(str(error) if message is None else message)
    new.__cause__ = error
    return new


def with_remedy(error: VbnfsError) -> str:
    """What happened, and what to do about it, in a line for people."""
    return f"{error}; {error.remedy}" if isinstance(error, StorageError) else str(error)
