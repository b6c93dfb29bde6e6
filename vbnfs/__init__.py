"""vbnfs: a versioned scientific dataset on S3 as a local, read-only file system.

In Python `vbnfs.Dataset` has the same files without a mount; docs/python.md is its guide.

>>> dataset = vbnfs.Dataset()  # that of the settings; S3 is asked at the first use
>>> dataset.versions
['0.4.0', '0.5.0']
>>> dataset.latest.units.shape  # tables are pandas frames, as AllenSDK has them
(3, 3)
>>> session = dataset.session(1044385384)
>>> with session.h5() as file:  # h5py; or session.nwb(), session.lfp("probeA").h5()
...     file["units/spike_times"][:2].tolist()
[0.0, 0.5]
>>> session.prefetch(lfp="yes")["outcome"].tolist()  # all of its files, in the cache and checked
['good', 'good']

Files of any kind: `Dataset.open`, `File.read_bytes`, `RemoteFile`. Keeping and checking: `Dataset.pin`,
`Version.verify`. What changed, and what to say in a paper: `Dataset.diff`, `Session.cite`. AllenSDK's own class:
`allensdk_cache`. What is raised: Python's own errors, and those of `vbnfs.errors`.
"""

TYPE_CHECKING = False  # as typing.TYPE_CHECKING: importing this imports nothing
if TYPE_CHECKING:
    from vbnfs import errors as errors
    from vbnfs.api.allensdk import allensdk_cache as allensdk_cache
    from vbnfs.api.citation import Citation as Citation
    from vbnfs.api.dataset import Dataset as Dataset
    from vbnfs.api.difference import Difference as Difference
    from vbnfs.api.files import File as File
    from vbnfs.api.progress import Progress as Progress
    from vbnfs.api.remote_file import RemoteFile as RemoteFile
    from vbnfs.api.version import Session as Session
    from vbnfs.api.version import Version as Version

__version__ = "0.1.0"
__all__ = [
    "Citation",
    "Dataset",
    "Difference",
    "File",
    "Progress",
    "RemoteFile",
    "Session",
    "Version",
    "allensdk_cache",
]

_PLACES = {
    "Citation": "vbnfs.api.citation",
    "Dataset": "vbnfs.api.dataset",
    "Difference": "vbnfs.api.difference",
    "File": "vbnfs.api.files",
    "Progress": "vbnfs.api.progress",
    "RemoteFile": "vbnfs.api.remote_file",
    "Session": "vbnfs.api.version",
    "Version": "vbnfs.api.version",
    "allensdk_cache": "vbnfs.api.allensdk",
}


def __getattr__(name: str) -> object:
    """A name of `__all__`, or `errors`, imported when it is first used (PEP 562): the file system needs no pandas."""
    if name not in _PLACES and name != "errors":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - see above

    if name == "errors":
        return importlib.import_module("vbnfs.errors")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """What a program uses: Tab offers no modules of vbnfs's own."""
    return [*__all__, "errors", *(name for name in globals() if name.startswith("__"))]
