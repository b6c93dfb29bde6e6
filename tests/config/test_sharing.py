"""Who may read a mount, as the settings say it."""

from pathlib import Path

import pytest

from tests.config.examples import plain, toml
from vbnfs.config.sharing import Sharing, sharing_of
from vbnfs.config.sources import load_config
from vbnfs.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "sharing"),
    [
        ({}, Sharing()),
        ({"allow_other": "yes"}, Sharing(lets_others_in=True)),
        ({"umask": "027", "gid": "7"}, Sharing(gid=7, file_mask=0o27, folder_mask=0o27)),
        ({"umask": "027", "fmask": "0"}, Sharing(file_mask=0, folder_mask=0o27)),
        ({"fmask": "137", "dmask": "027", "uid": "9"}, Sharing(uid=9, file_mask=0o137, folder_mask=0o27)),
        ({"allow_root": "yes"}, Sharing(file_mask=0o77, folder_mask=0o77, lets_others_in=True)),
        ({"allow_root": "yes", "umask": "0400"}, Sharing(file_mask=0o477, folder_mask=0o477, lets_others_in=True)),
    ],
)
def test_sharing(settings: dict[str, str], sharing: Sharing) -> None:
    """umask holds for files and folders, fmask and dmask win; allow_root lets others in, and modes keep them out."""
    assert sharing_of(plain(**settings)) == sharing


def test_settings_that_exclude_each_other() -> None:
    """allow_root and allow_other together are refused, wherever they come from."""
    with pytest.raises(UsageError, match="allow_root and allow_other"):
        load_config(command_line={"allow_root": "yes"}, environ={"VBNFS_ALLOW_OTHER": "yes"})


def test_masks_are_text_in_a_file(tmp_path: Path) -> None:
    """In the TOML file 027 is no number and 0o27 is 23: a mask has to be a text there."""
    assert load_config(command_line={}, environ={}, config_file=toml(tmp_path, 'umask = "027"')).umask == 0o27
    for text in ("27", "0o27", "true"):
        with pytest.raises(UsageError, match=r'umask in .*: a text is wanted, such as umask = "027"'):
            load_config(command_line={}, environ={}, config_file=toml(tmp_path, f"umask = {text}"))
