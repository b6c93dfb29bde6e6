"""Every exception that vbnfs raises on purpose, and the errno that each becomes at the mount.

    VbnfsError                      EIO
    ├── UsageError                  EINVAL      a setting or an argument is wrong; nothing was done
    ├── MountError                  EIO         the mount could not be made, found or taken away
    ├── InstallError                EIO         mount helper or units cannot be put in place, or taken away
    ├── DemoError                   EIO         the demo's server or libraries are missing, or failed
    ├── DatasetError                EIO         what the bucket holds is not a usable dataset
    │   └── ManifestError           EIO         one manifest is refused; the others still mount
    └── StorageError                EIO         S3 did not give what was asked for
        ├── TransportError          EIO         no (whole) answer: refused, reset, truncated, DNS, TLS
        │   └── BusyError           EIO         503, 429, 5xx: the server asks for another try
        ├── BadReplyError           EIO         an answer that does not match the question
        ├── AccessDeniedError       EACCES      403
        ├── ObjectGoneError         ESTALE      404, or the version is not there any more
        └── DeadlineError           ETIMEDOUT   time ran out

The message names the thing and, where there is one, the remedy: it is shown to people as it stands.
"""

import errno
from collections.abc import Iterator
from typing import ClassVar


class VbnfsError(Exception):
    """The root: `errno` is what a FUSE request that meets this error is answered with."""

    errno: ClassVar[int] = errno.EIO


def the_reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
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
    """A setting, an argument or a configuration file is wrong."""

    errno = errno.EINVAL


class MountError(VbnfsError):
    """The mount could not be made, found or taken away."""


class InstallError(VbnfsError):
    """The mount helper or the systemd units could not be put in place, or taken away."""


class DemoError(VbnfsError):
    """The demo's server or libraries are missing, or failed."""


class DatasetError(VbnfsError):
    """What the bucket holds is not a usable dataset."""


class ManifestError(DatasetError):
    """One manifest is refused; the message names the entry that is to blame."""


class StorageError(VbnfsError):
    """S3 did not give what was asked for."""


class TransportError(StorageError):
    """No answer, or not the whole of it: worth another try."""


class BusyError(TransportError):
    """The server asks for another try (503 SlowDown, 429, other 5xx)."""


class BadReplyError(StorageError):
    """An answer that does not match the question: wrong range, length, version, or not parseable."""


class AccessDeniedError(StorageError):
    """403: the bucket does not allow this to be read."""

    errno = errno.EACCES


class ObjectGoneError(StorageError):
    """404, or a version id that the bucket does not know (any more)."""

    errno = errno.ESTALE


class DeadlineError(StorageError):
    """The time allowed for an answer ran out."""

    errno = errno.ETIMEDOUT
