"""Which section of docs/troubleshooting.md explains a failure, and where that page is.

The address is what the package's metadata has as its project URL `Troubleshooting`. Without one it is the path of the
page that is installed with the program: it can be read without network, too.
"""

from collections.abc import Sequence
from typing import Final

from vbnfs import errors
from vbnfs.errors import CacheError, DatasetError, MountError, VbnfsError
from vbnfs.host.documents import installed_page

DEFECT: Final = "the-daemon-ended-or-there-was-a-defect"
_LABEL: Final = "Troubleshooting"
_PAGE: Final = "troubleshooting.md"

_FOLDER: Final = "the-folder-is-refused"
_REFUSED: Final = "the-system-refuses-the-mount"
_LIMITS: Final = "too-little-memory-or-too-few-open-files"
_THERE: Final = "already-a-vbnfs-mount"
_BUSY: Final = "cannot-unmount-target-is-busy"
_SILENT: Final = "the-daemon-does-not-answer"
_OTHER: Final = "the-mount-is-of-another-version-of-vbnfs"
_UNHEARD: Final = "vbnfs-status-does-not-reach-the-mount"
_PINS: Final = "nothing-is-kept-because-of-pins"
_DISK: Final = "disk-full-no-space-left-on-device"
_PATH: Final = "no-such-file-or-directory-though-it-is-listed-on-the-web"
_VERSION: Final = "a-dataset-version-is-missing"
_SERVER: Final = "the-server-cannot-be-reached"
_IMPORT: Final = "vbnfs-import-does-not-take-my-files"
_INDEX: Final = "an-index-is-refused"
_METRICS: Final = "metrics-that-cannot-be-had"
_DEMO: Final = "the-demo-does-not-start"
_REPLY: Final = "a-proxy-or-a-login-page-answers"

# An error's class, words of its message ('' for any), and the heading of its section as a link has it. The first row
# that fits counts, so a class stands before those that it derives from.
SECTIONS: Final[Sequence[tuple[type[VbnfsError], str, str]]] = (
    (MountError, "fusermount3 is not installed", "fusermount3-not-found"),
    (MountError, "on Linux alone", "mounts-are-made-on-linux-alone"),
    (MountError, "modprobe fuse", "devfuse-is-missing-or-closed"),
    (MountError, "not open to everybody", "devfuse-is-missing-or-closed"),
    (MountError, "already a vbnfs mount", _THERE),
    (MountError, "is at it and does not end", _THERE),
    (MountError, "make it with 'mkdir -p'", _FOLDER),
    (MountError, "mount on an empty folder of your own", _FOLDER),
    (MountError, "a mount would hide what is there", _FOLDER),
    (MountError, "must not lie in one another", _FOLDER),
    (MountError, "too many links", _FOLDER),
    (MountError, "it must be a folder of", _FOLDER),
    (MountError, "cannot be made", _FOLDER),
    (MountError, "not a folder; ", _FOLDER),
    (MountError, "so you cannot mount on it", _FOLDER),
    (MountError, "choose one with --log-file", "the-log-file-cannot-be-written"),
    (MountError, "no more memory, threads or processes", _LIMITS),
    (MountError, "this process may take", _LIMITS),
    (MountError, "this process may have", _LIMITS),
    (MountError, "before the mount was there", DEFECT),
    (MountError, "a defect", DEFECT),
    (MountError, "ended with status", _DEMO),
    (MountError, "no file that two versions share", _DEMO),
    (MountError, "cannot be mounted", _REFUSED),
    (MountError, "could not read them", _REFUSED),
    (MountError, "has to leave it open", _REFUSED),
    (MountError, "not a descriptor of /dev/fuse", _REFUSED),
    (MountError, "nothing is mounted with it", _REFUSED),
    (MountError, "hand the mount over as descriptor", _REFUSED),
    (MountError, "answers this mount already", _REFUSED),
    (MountError, "or mount with --fuse native", _REFUSED),
    (MountError, "or later is needed", _REFUSED),
    (MountError, "not to be found in /proc/self/mountinfo", _REFUSED),
    (MountError, "or add --lazy", _BUSY),
    (MountError, "unmount that", _BUSY),
    (MountError, "takes away one at a time", _BUSY),
    (MountError, "the metrics cannot be", _METRICS),
    (MountError, "metrics need", _METRICS),
    (MountError, "no vbnfs mount", "nothing-is-mounted-there"),
    (MountError, "is there to be watched", "nothing-is-mounted-there"),
    (MountError, "it may be of another vbnfs", _UNHEARD),
    (MountError, "not mounted", "nothing-is-mounted-there"),
    (MountError, "its daemon is gone", "transport-endpoint-is-not-connected"),
    (MountError, "of an older vbnfs", _OTHER),
    (MountError, "unmount it and mount it again", _OTHER),
    (MountError, "does not answer", _SILENT),
    (MountError, "has not ended", _SILENT),
    (MountError, "what it is doing may be in its log", _SILENT),
    (MountError, "what was fetched last may be fetched again", _SILENT),
    (MountError, "still mounted after", _SILENT),
    (MountError, "its daemon's", _SILENT),
    (MountError, "control socket", _UNHEARD),
    (MountError, "can ask for that", _UNHEARD),
    (MountError, "not open to you", _UNHEARD),
    (MountError, "can take it away", _UNHEARD),
    (MountError, "not a folder of yours alone", _UNHEARD),
    (MountError, "paths in different mounts", _PATH),
    (CacheError, "takes no more", _DISK),
    (CacheError, "nothing was", _DISK),
    (CacheError, "cannot be kept", _DISK),
    (CacheError, "because it is pinned, or", _PINS),
    (CacheError, "cannot be deleted", "the-cache-takes-more-than-it-may"),
    (CacheError, "", "the-cache-directory-is-refused"),
    (errors.ReadOnlyError, "", "read-only-file-system"),
    (DatasetError, "nothing to fetch", "vbnfs-prefetch-finds-nothing-to-fetch"),
    (DatasetError, "not in the dataset", _PATH),
    (DatasetError, "name the files by their paths", _PATH),
    (DatasetError, "no such file or folder", _PATH),
    (DatasetError, "no folders are there yet", _PATH),
    (DatasetError, "not in a vbnfs mount", _PATH),
    (DatasetError, "name another folder", _IMPORT),
    (DatasetError, "which has its files from the cache", _IMPORT),
    (DatasetError, "files of the dataset", _IMPORT),
    (DatasetError, "no file of this dataset", _IMPORT),
    (DatasetError, "what an export has written", _IMPORT),
    (DatasetError, "this exported folder", _IMPORT),
    (DatasetError, "to this folder writes it anew", _IMPORT),
    (DatasetError, "cannot be read as CSV", "vbnfs-diff-cannot-compare-a-table"),
    (DatasetError, "structure sets", _INDEX),
    (DatasetError, "no file of a dataset", _INDEX),
    (DatasetError, "no file with a hash", "vbnfs-verify-does-not-say-good"),
    (DatasetError, "manifests", _VERSION),
    (DatasetError, "no size", _VERSION),
    (DatasetError, "check --bucket and --project", "there-is-no-such-bucket"),
    (DatasetError, "dataset version", _VERSION),
    (errors.ManifestError, "", _VERSION),
    (errors.RecordError, "", "a-record-is-refused"),
    (errors.PinError, "so nothing is deleted", _PINS),
    (errors.PinError, "", "a-pin-is-not-there-or-cannot-be-made"),
    (errors.NotVerifiedError, "structure sets", _INDEX),
    (errors.IndexFileError, "", _INDEX),
    (errors.NotVerifiedError, "", "vbnfs-verify-does-not-say-good"),
    (errors.SetError, "", "vbnfs-verify-does-not-say-good"),
    (errors.ExportError, "", "vbnfs-export-does-not-write-the-folder"),
    (errors.HashMismatchError, "", "vbnfs-verify-does-not-say-good"),
    (errors.Hdf5Error, "", "vbnfs-tree-does-not-show-all-of-a-file"),
    (errors.TablesError, "", "vbnfs-sessions-or-units-finds-nothing"),
    (errors.InstallError, "so it stays", "vbnfs-install-leaves-a-file-as-it-is"),
    (errors.InstallError, "only root may do that", "vbnfs-install-leaves-a-file-as-it-is"),
    (errors.InstallError, "is at work", "vbnfs-install-leaves-a-file-as-it-is"),
    (errors.InstallError, "not a list", "vbnfs-install-leaves-a-file-as-it-is"),
    (errors.ClusterError, "", "a-dask-cluster-does-not-do-it"),
    (errors.ResultsError, "", "a-folder-of-results-is-refused"),
    (errors.DoctorError, "", "vbnfs-doctor-says-that-something-needs-doing"),
    (errors.InstallError, "", "unknown-filesystem-type-vbnfs"),
    (errors.DemoError, "", _DEMO),
    (errors.WebError, "", "vbnfs-web-does-not-start"),
    (errors.UntrustedServerError, "", "certificate-verify-failed"),
    (errors.ProxyDeniedError, "", "behind-a-proxy"),
    (errors.ProxyError, "", "behind-a-proxy"),
    (errors.OfflineError, "", "network-is-unreachable"),
    (errors.NotKeptError, "", _DISK),
    (errors.AccessDeniedError, "", "access-denied-by-s3"),
    (errors.NoBucketError, "", "there-is-no-such-bucket"),
    (errors.ObjectGoneError, "", "stale-file-handle"),
    (errors.ChangedError, "", "stale-file-handle"),
    (errors.MovedError, "", "there-is-no-such-bucket"),
    (errors.BadReplyError, "was asked in plain HTTP", _SERVER),
    (errors.BadReplyError, "", _REPLY),
    (errors.DeadlineError, "", "connection-timed-out"),
    (errors.NoDescriptorError, "", _LIMITS),
    (errors.BusyError, "", "the-server-is-overloaded"),
    (errors.TransportError, "", _SERVER),
    (errors.StorageError, "", "inputoutput-error"),
    (VbnfsError, "", "none-of-these"),
)


def section_of(error: Exception) -> str:
    """The section that explains an error, as the part of its address behind `#`. What is not foreseen is a defect."""
    message = str(error)
    found = (section for kind, words, section in SECTIONS if isinstance(error, kind) and words in message)
    return next(found, DEFECT)


def where_to_read(error: Exception) -> str | None:
    """`see ADDRESS#SECTION`; None where this installation has no page and knows of none."""
    place = place_of(section_of(error))
    return None if place is None else f"see {place}"


def place_of(section: str) -> str | None:
    """The address of a section; None as above."""
    address = _published() or installed_page(_PAGE)
    return None if address is None else f"{address}#{section}"


def _published() -> str | None:
    """The page's URL, if the package's metadata has one (Core metadata specifications, Project-URL)."""
    from importlib.metadata import PackageNotFoundError, metadata  # noqa: PLC0415 - takes a while; only after failures

    try:
        urls = metadata("vbnfs").get_all("Project-URL") or []
    except PackageNotFoundError:  # it runs from a folder, and is not installed
        return None
    labelled = [url.partition(",") for url in urls]
    return next((address.strip() for label, _, address in labelled if label.strip() == _LABEL), None)
