"""Every exception that vbnfs raises on purpose, and the errno of the reply that each becomes at the mount.

    VbnfsError                      EIO
    ├── UsageError                  EINVAL      a setting or an argument is wrong, on any machine
    ├── CacheError                  EACCES      the cache directory cannot be used
    ├── MountError                  EIO         the mount could not be made, found or unmounted
    ├── NotVerifiedError            EIO         files were to be verified or imported, and not all are good and kept
    ├── SetError                    EIO         a file that is handed on cannot be read or written, or is none
    │   ├── DigestsError            EIO         of digests
    │   └── IndexFileError          EIO         of a structure index
    ├── PinError                    EIO         a pin is not there, or cannot be read, stored or made so
    ├── RecordError                 EIO         a record of what was read cannot be written or read, or is none
    ├── Hdf5Error                   EIO         a file is no HDF5 file, or not all of its structure was found
    ├── TablesError                 EIO         the dataset has no such table, or what is found cannot be written
    ├── ExportError                 EIO         a folder cannot be exported to, or takes no more
    ├── ClusterError            EIO         a Dask cluster cannot be reached, or cannot do what is asked
    ├── ResultsError            EIO         a folder of results cannot be used, or a result not stored
    ├── DoctorError                 EIO         something here needs doing, or a report of it cannot be written
    ├── InstallError                EIO         mount helper or units cannot be installed or removed
    ├── WebError                    EIO         the page cannot be served
    ├── DemoError                   EIO         the demo's server or libraries are missing, or failed
    ├── ReadOnlyError               EROFS       something was to be written: a released dataset never changes
    ├── DatasetError                EIO         what the bucket holds is not a usable dataset
    │   └── ManifestError           EIO         one manifest is refused; the others still mount
    └── StorageError                EIO         a request to S3 failed, or cannot be made
        ├── TransportError          EIO         no whole reply: reset, truncated, silent
        │   ├── UnreachableError    ENETUNREACH no connection: refused, no route, DNS, TLS
        │   │   └── ProxyError      ENETUNREACH the proxy makes no connection to the server, or is not there
        │   ├── ReceiverLostError   EIO         the process that received it has ended
        │   └── BusyError           EIO         503, 429, 5xx: the server asks for a retry
        │       └── NoDescriptorError EIO       no descriptor is left for a connection
        ├── BadReplyError           EIO         a reply that cannot be used
        │   ├── MovedError          EIO         the bucket is in another region, or at another address
        │   ├── WrongBlockError     EIO         a block with other bytes than its digest says
        │   └── MismatchError       EIO         a reply to another request: wrong range, length, body
        │       └── ChangedError    ESTALE      not the listed object: other version id or size
        ├── UntrustedServerError    EIO         a certificate without a trusted issuer
        │   ├── WrongNameError      EIO         a certificate for another host
        │   └── ExpiredError        EIO         a certificate that is not valid any more, or not yet
        │       └── WrongClockError EIO         the same, and this machine's clock is wrong
        ├── ProxyDeniedError        EACCES      the proxy does not let us reach the server
        │   └── ProxyLoginError     EACCES      the proxy wants a name and a password, or others
        ├── OfflineError            ENETUNREACH the server cannot be reached, or --offline
        ├── HashMismatchError       EIO         a file does not have the hash in its manifest
        ├── NotKeptError            EIO         blocks were stored as they came, and are not in the cache
        ├── AccessDeniedError       EACCES      403
        │   ├── ArchivedError       EACCES      the object is in an archive
        │   └── ListingDeniedError  EACCES      403 for a listing
        ├── ObjectGoneError         ESTALE      404, or the version no longer exists
        │   └── NoBucketError       ESTALE      404 for the bucket, or for a listing
        └── DeadlineError           ETIMEDOUT   time ran out
            └── SilenceError        ETIMEDOUT   no byte came for some time

The message is written where it is raised. It names the thing and, if there is one, the remedy; it is shown to users
unchanged. A `StorageError` has its remedy by class, or one of its own, which `with_remedy` appends.
"""

import errno
import io
from collections.abc import Iterator
from typing import ClassVar, TypeVar


class VbnfsError(Exception):
    """The root. `errno` is the reply to a FUSE request that fails with this error.

    `remedy` is what the user can do, if the message does not say it: the class's, or an error's own.
    """

    errno: ClassVar[int] = errno.EIO
    remedy: str = ""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        if remedy is not None:
            self.remedy = remedy

    @property
    def own_remedy(self) -> str | None:
        """What this one has instead of its class's remedy; None where it has that."""
        found: str | None = vars(self).get("remedy")
        return found


_Error = TypeVar("_Error", bound=VbnfsError)


def root_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to report for a nursery's group: Ctrl-C, else the first member; the group if it has a defect."""
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
    """A setting, an argument or a configuration file is wrong, on any machine: exit status 2."""

    errno = errno.EINVAL


class CacheError(VbnfsError):
    """The cache directory cannot be used: it cannot be made, or other users can write it."""

    errno = errno.EACCES


class MountError(VbnfsError):
    """The mount could not be made, found or unmounted."""


class NotVerifiedError(VbnfsError):
    """Not all files that were asked for have their hash and are kept: `vbnfs verify` and `import`, exit status 1."""


class SetError(VbnfsError):
    """A file by which caches hand on what they know cannot be read or written, or is none; the message says why."""


class DigestsError(SetError):
    """The same of digests."""


class IndexFileError(SetError):
    """The same of a structure index."""


class PinError(VbnfsError):
    """A pin is not there, is damaged, cannot be stored, or holds something else than what is asked for now."""


class RecordError(VbnfsError):
    """A record of what was read cannot be written or read, is none, or names files that are not to be had."""


class Hdf5Error(VbnfsError):
    """A file is no HDF5 file, or not all that was asked for of its structure was found; the message says what."""


class TablesError(VbnfsError):
    """The dataset version has no such table, or what was found in one cannot be written; the message says why."""


class ExportError(VbnfsError):
    """A folder cannot be exported to, or takes no more; the message says how to go on."""


class ClusterError(VbnfsError):
    """A Dask cluster cannot be reached, has no workers, or they cannot do what is asked; the message says why."""


class ResultsError(VbnfsError):
    """A folder of results is of something else or cannot be used, or a result cannot be stored."""


class DoctorError(VbnfsError):
    """Something on this machine needs doing, or a report of it cannot be written: `vbnfs doctor`, exit status 1."""


class InstallError(VbnfsError):
    """The mount helper or the systemd units could not be installed or removed."""


class WebError(VbnfsError):
    """The page cannot be served: its port is taken, or a library is missing."""


class DemoError(VbnfsError):
    """The demo's server or libraries are missing, or failed."""


class ReadOnlyError(VbnfsError, io.UnsupportedOperation):
    """Something was to be written, and the dataset is read-only. In Python it is an `OSError`, too."""

    errno = errno.EROFS  # type: ignore[misc] # OSError has it for each object, VbnfsError for the class


class DatasetError(VbnfsError):
    """What the bucket holds is not a usable dataset."""


class ManifestError(DatasetError):
    """One manifest is refused; the message names the faulty entry."""


class StorageError(VbnfsError):
    """A request to S3 failed, or cannot be made."""

    remedy = "look into the log, and try again"


class TransportError(StorageError):
    """No reply, or only a part of it. A retry may succeed."""

    remedy = "check the network, --endpoint-url and the proxy variables, and try again"


class UnreachableError(TransportError):
    """No connection to the server comes about: refused, no route, a name that is not known, no TLS."""

    errno = errno.ENETUNREACH


class ProxyError(UnreachableError):
    """The proxy cannot be reached, or makes no connection to the server."""

    remedy = "check the proxy and the variable that names it, or name the server in NO_PROXY, and try again"


class ReceiverLostError(TransportError):
    """The process that received the reply has ended (--receivers). There is another one, or a thread, at once."""

    remedy = "look into the log, or leave --receivers out"


class BusyError(TransportError):
    """The server asks for a retry (503 SlowDown, 429, other 5xx).

    `retry_after_seconds` is the delay that it asks for; None if it names none (RFC 9110, 10.2.3).
    """

    remedy = "the server is overloaded: try again later, or lower --max-connections"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds


class NoDescriptorError(BusyError):
    """No connection can be opened, because this process has too many files open."""

    remedy = "raise the limit of open files (ulimit -n), or lower --max-connections, and try again"


class BadReplyError(StorageError):
    """A reply that cannot be used: an unexpected status, not parseable, too large."""

    remedy = "check --region, --endpoint-url and the proxy variables: this is not how S3 answers"


class MovedError(BadReplyError):
    """The bucket is in another region, or has another address: S3 says so, and asking again changes nothing."""

    remedy = "check --region and --endpoint-url"


class MismatchError(BadReplyError):
    """A reply to another request: wrong range, length, body. It is discarded; a retry may succeed."""

    remedy = "a proxy or the server answers wrongly: check --endpoint-url and the proxy variables, and try again"


class ChangedError(MismatchError):
    """A reply with another version id or size than was listed: the object has changed, or a proxy is at fault."""

    errno = errno.ESTALE
    remedy = "read another dataset version, or check --endpoint-url and the proxy variables: something else is there"


class WrongBlockError(BadReplyError):
    """A block whose bytes are not those of the released file: its digest is another one (`found`, 16 bytes)."""

    remedy = "a proxy, a mirror or the server damages what it sends: check --endpoint-url and the proxy variables"

    def __init__(self, message: str, *, found: bytes = b"", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.found = found


class UntrustedServerError(StorageError):
    """No trusted authority has issued the server's certificate: no request is sent."""

    remedy = (
        "name the certificates to trust by --ca-bundle, or add them to the system's;"
        " in a network with a login page, log in first"
    )


class WrongNameError(UntrustedServerError):
    """The server's certificate is for another host."""

    remedy = "check --endpoint-url; in a network with a login page, log in first"


class ExpiredError(UntrustedServerError):
    """The server's certificate, or one above it, has expired or is not valid yet."""

    remedy = "check that this machine's clock is right (date); if it is, the server's operator has to renew it"


class WrongClockError(ExpiredError):
    """The same, and this machine's clock is known to be wrong."""

    remedy = "set this machine's clock (timedatectl set-ntp true), and try again"


class ProxyDeniedError(StorageError):
    """The proxy does not let us reach the server."""

    errno = errno.EACCES
    remedy = "have the proxy's operator allow the server, or name it in NO_PROXY where it can be reached directly"


class ProxyLoginError(ProxyDeniedError):
    """The proxy wants a name and a password, or others than it gets."""

    remedy = (
        "write them into the variable: http://NAME:PASSWORD@HOST:PORT, with % escapes for special characters"
        " (%40 for @); vbnfs knows no other way to log in at a proxy (Basic, RFC 7617)"
    )


class OfflineError(StorageError):
    """The server cannot be reached at present, or requests are forbidden (--offline)."""

    errno = errno.ENETUNREACH
    remedy = "connect to the network, or check --endpoint-url and the proxy variables"


class HashMismatchError(StorageError):
    """The bytes of a whole file do not have the hash in the manifest."""


class NotKeptError(StorageError):
    """Blocks were stored in the cache as they came, again and again, and each time the cache did not have them."""

    remedy = "allow the cache more room by --cache-size, look into the log, and try again"


class AccessDeniedError(StorageError):
    """403: the bucket does not allow this to be read."""

    errno = errno.EACCES
    remedy = "check --bucket, or read it in another dataset version: the bucket's owner forbids this one"


class ArchivedError(AccessDeniedError):
    """The object is in an archive (GLACIER, ...), and has to be restored before it can be read."""

    remedy = "ask the bucket's owner to restore it, or read another dataset version, or a mirror (--mirror)"


class ListingDeniedError(AccessDeniedError):
    """403 for a listing, so the dataset cannot be known completely."""

    remedy = "check --bucket and --project; where the owner forbids to list what may be read, name the --versions"


class ObjectGoneError(StorageError):
    """404, or a version id that does not exist in the bucket, or no longer."""

    errno = errno.ESTALE
    remedy = "read another dataset version: 'vbnfs versions' lists those that there are"


class NoBucketError(ObjectGoneError):
    """404 for the bucket, or for a listing: the name of the bucket or project, or the server's address, is wrong."""

    remedy = "check --bucket, --project, --region and --endpoint-url"


class DeadlineError(StorageError):
    """The time allowed for a reply ran out."""

    errno = errno.ETIMEDOUT
    remedy = "check the network, or allow more time by --io-timeout"


class SilenceError(DeadlineError):
    """No byte came for some time, on any connection."""

    remedy = "check the network, or allow more time by --silence-timeout, which is never above --io-timeout"


def copy_error(error: _Error, message: str | None = None) -> _Error:
    """An exception of the same class, caused by `error`; with the same message, or another one.

    Each task that is to raise an error needs its own copy: one object raised in several tasks mixes their tracebacks.
    """
    new = type(error)(str(error) if message is None else message, remedy=error.own_remedy)
    new.__cause__ = error
    return new


def with_remedy(error: VbnfsError) -> str:
    """The message with its remedy, in one line for the user."""
    return f"{error}; {error.remedy}" if error.remedy else str(error)


def with_own_remedy(error: VbnfsError) -> str:
    """The message with the remedy that the cause has, if any: of a manifest, say, where the class's would not fit."""
    return f"{error}; {error.own_remedy}" if error.own_remedy else str(error)
