"""The cache directory, made ready before it is used: its folders belong to this user alone."""

from pathlib import Path
from typing import Final

from vbnfs.cache.content_folder import FORMAT as BLOCKS_FORMAT
from vbnfs.cache.digests import FORMAT as DIGESTS_FORMAT
from vbnfs.cache.eviction import take_over_size
from vbnfs.cache.inventory import FORMAT_1
from vbnfs.cache.verdicts import FORMAT as VERDICTS_FORMAT
from vbnfs.dataset.allensdk import ALLENSDK
from vbnfs.dataset.catalog import KEPT_FORMAT
from vbnfs.host.atomic import remove_leftovers
from vbnfs.host.private import check_private, make_private

_NAMES: Final = frozenset({BLOCKS_FORMAT, FORMAT_1, KEPT_FORMAT, VERDICTS_FORMAT, DIGESTS_FORMAT, ALLENSDK})
_BLOCK_FOLDERS: Final = 3  # scope, kind, and the first two digits; there may be 10,000 folders below
_FORMAT_1_FOLDERS: Final = 2
_KEPT_FOLDERS: Final = 5  # origin, bucket, project, manifests, and the few files in them
_VERDICT_FOLDERS: Final = 3  # scope, good and bad, and the first two digits or the few files of what is bad
_DIGESTS_FOLDERS: Final = 2  # proven and imported, and the first two digits
_ALLENSDK_FOLDERS: Final = 1  # the few files in it


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
    check_private(folder / ALLENSDK, depth=_ALLENSDK_FOLDERS)
    for kept in (KEPT_FORMAT, VERDICTS_FORMAT, DIGESTS_FORMAT):
        remove_leftovers(folder / kept)
    remove_leftovers(folder / BLOCKS_FORMAT, depth=0)  # of its size
    take_over_size(folder)
