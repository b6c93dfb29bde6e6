"""The cache directory, made ready before it is used: its folders belong to this user alone."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.cache.content_folder import FORMAT as BLOCKS_FORMAT
from vbnfs.cache.digests import FORMAT as DIGESTS_FORMAT
from vbnfs.cache.eviction import take_over_size
from vbnfs.cache.inventory import FORMAT_1
from vbnfs.cache.pins import FORMAT as PINS_FORMAT
from vbnfs.cache.structure_index import FORMAT as STRUCTURE_FORMAT
from vbnfs.cache.verdicts import FORMAT as VERDICTS_FORMAT
from vbnfs.dataset.allensdk import ALLENSDK
from vbnfs.dataset.catalog import KEPT_FORMAT
from vbnfs.dataset.markers import CACHEDIR_SIGNATURE, CACHEDIR_TAG
from vbnfs.host.atomic import remove_leftovers, replace_file
from vbnfs.host.places import Place
from vbnfs.host.private import check_private, make_private

_NAMES: Final = frozenset(
    {BLOCKS_FORMAT, FORMAT_1, KEPT_FORMAT, VERDICTS_FORMAT, DIGESTS_FORMAT, STRUCTURE_FORMAT, PINS_FORMAT, ALLENSDK}
)
_BLOCK_FOLDERS: Final = 3  # scope, kind, and the first two digits; there may be 10,000 folders below
_FORMAT_1_FOLDERS: Final = 2
_KEPT_FOLDERS: Final = 5  # origin, bucket, project, manifests, and the few files in them
_VERDICT_FOLDERS: Final = 3  # scope, good and bad, and the first two digits or the few files of what is bad
_DIGESTS_FOLDERS: Final = 2  # proven and imported, and the first two digits
_STRUCTURE_FOLDERS: Final = 1  # the two files in it
_ALLENSDK_FOLDERS: Final = 1  # the few files in it
_PINS_FOLDERS: Final = 1
_TAG_TEXT: Final = (
    CACHEDIR_SIGNATURE
    + b"# This folder is a cache of vbnfs. Programs that make backups may leave it out: https://bford.info/cachedir/\n"
)


def is_there(directory: Path) -> bool:
    """Whether there is a cache. True also where that cannot be found out: preparing the folder then reports why."""
    try:
        directory.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def prepare_cache_directory(directory: Path) -> None:
    """Make the cache directory, for its owner alone. Raises `CacheError`, also if another user owns or can write it.

    Temporary files that dead processes left of small files are deleted; those of blocks are left to eviction's scan.
    """
    folder = make_private(directory, names=_NAMES)
    check_private(folder / BLOCKS_FORMAT, depth=_BLOCK_FOLDERS)
    check_private(folder / FORMAT_1, depth=_FORMAT_1_FOLDERS)
    check_private(folder / KEPT_FORMAT, depth=_KEPT_FOLDERS)
    check_private(folder / VERDICTS_FORMAT, depth=_VERDICT_FOLDERS)
    check_private(folder / DIGESTS_FORMAT, depth=_DIGESTS_FOLDERS)
    check_private(folder / STRUCTURE_FORMAT, depth=_STRUCTURE_FOLDERS)
    check_private(folder / ALLENSDK, depth=_ALLENSDK_FOLDERS)
    check_private(folder / PINS_FORMAT, depth=_PINS_FOLDERS)
    for kept in (KEPT_FORMAT, VERDICTS_FORMAT, DIGESTS_FORMAT, STRUCTURE_FORMAT, PINS_FORMAT):
        remove_leftovers(folder / kept)
    remove_leftovers(folder / BLOCKS_FORMAT, depth=0)  # of its size
    take_over_size(folder)
    _mark_as_cache(folder)


def _mark_as_cache(folder: Place) -> None:
    """Let programs that make backups know that the folder is a cache. A disk that takes no file is no error."""
    if not (folder / CACHEDIR_TAG).is_file():
        with suppress(OSError):
            replace_file(folder / CACHEDIR_TAG, _TAG_TEXT)
