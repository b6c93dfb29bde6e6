"""`vbnfs clean PATH...`, `--dataset-version`, `--all`: see access/freeing.py, which deletes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import trio

from vbnfs.access import freeing
from vbnfs.access.dataset import open_dataset
from vbnfs.access.freeing import Freed
from vbnfs.access.tree_files import Place
from vbnfs.access.versions import load_versions
from vbnfs.cli.running import run as run_to_the_end


def free(where: Place, dataset_versions: Sequence[str], *, is_trial: bool) -> Freed:
    """Delete files, or versions, without asking the network: see `freeing.free`."""
    return run_to_the_end(partial(_free, where, dataset_versions, is_trial=is_trial))


async def _free(where: Place, dataset_versions: Sequence[str], *, is_trial: bool) -> Freed:
    async with open_dataset(replace(where.config, offline=True)) as dataset:
        versions = await load_versions(dataset)
        work = partial(freeing.free, versions, where.paths, dataset_versions, is_trial=is_trial)
        return await trio.to_thread.run_sync(work)
