"""Whose files are shown to be, and whom the kernel lets read them."""

import stat

import pytest

from vbnfs.filesystem.ownership import Ownership

FILE, FOLDER, LINK = stat.S_IFREG | 0o444, stat.S_IFDIR | 0o555, stat.S_IFLNK | 0o777


def test_masks() -> None:
    """Each mask takes permissions from its kind; a link keeps its mode, and the kind of a file its bits."""
    shown = Ownership(1, 2, file_mask=0o137, folder_mask=0o027)
    assert [oct(shown.masked(mode)) for mode in (FILE, FOLDER, LINK)] == ["0o100440", "0o40550", "0o120777"]


@pytest.mark.parametrize(
    ("uid", "gids", "mask", "may"),
    [
        (1, set(), 0o077, True),
        (1, {2}, 0o400, False),  # the owner's bits count for the owner, also if the group has more
        (9, {2}, 0o027, True),
        (9, {2}, 0o047, False),
        (9, {3}, 0o027, False),
        (9, set(), 0o770, True),
    ],
)
def test_who_may_read(uid: int, gids: set[int], mask: int, may: bool) -> None:
    """The first of owner, group and others that applies decides, as in the kernel."""
    shown = Ownership(1, 2, file_mask=mask, folder_mask=mask)
    assert [shown.lets_read(mode, uid, gids) for mode in (FILE, FOLDER)] == [may, may]
