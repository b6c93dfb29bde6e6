"""What `vbnfs pin`, `unpin` and `pins` do: see access/pinning.py. It opens the dataset."""

from collections.abc import Sequence
from functools import partial

from vbnfs.access.cache_directory import is_there
from vbnfs.access.dataset import open_dataset
from vbnfs.access.fetching import Announce
from vbnfs.access.pinning import Holder, PinRow, pin_rows, take_away, there
from vbnfs.access.tree_files import Place
from vbnfs.access.verifying import Outcome, Show
from vbnfs.access.wanted import Wanted
from vbnfs.cli import prefetch
from vbnfs.cli.progress import Bar
from vbnfs.cli.running import load_aloud
from vbnfs.cli.running import run as run_to_the_end
from vbnfs.config.settings import Config
from vbnfs.host.private import keep_others_out


def hold_and_fetch(
    where: Place, name: str, note: str | None, wanted: Wanted, *, show: Show, bar: Bar, announce: Announce
) -> Outcome:
    """Have a pin hold what is wanted, and fetch it. What it held before is held until all of that is here.

    `note` None: the one that it has. Raises a `VbnfsError`.
    """
    holder = Holder(where.config, name, note, wanted)
    _, outcome = prefetch.run(where, prefetch.chosen_by(wanted), show, bar, announce, hold=holder.hold)
    holder.let_go_of_what_was_before(outcome)
    return outcome


def unpin(config: Config, names: Sequence[str]) -> list[tuple[str, int]]:
    """Take pins away; their names, and how many bytes no other pin holds now. Raises `PinError` for none."""
    keep_others_out()
    return take_away(config, names)


def list_pins(config: Config, names: Sequence[str]) -> tuple[list[PinRow], list[str]]:
    """The pins, or those of these names; and what has to be known of them. Raises `PinError`."""
    if not is_there(config.cache_dir):
        for name in names:
            there(config, name)
        return [], []
    return run_to_the_end(partial(_list, config, names))


async def _list(config: Config, names: Sequence[str]) -> tuple[list[PinRow], list[str]]:
    async with open_dataset(config) as dataset:
        return await pin_rows(dataset, names, load_aloud)
