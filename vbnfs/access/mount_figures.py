"""What a mount does now, as its daemon reports it, checked."""

from typing import Final

from vbnfs.access.running_mounts import ANSWER_SECONDS, ask_of
from vbnfs.errors import MountError
from vbnfs.figures import Figures, parse
from vbnfs.host.mountinfo import MountEntry

FIGURES: Final = "figures"


def ask_figures(entry: MountEntry, *, seconds: float = ANSWER_SECONDS) -> Figures:
    """The figures of a mount. Raises `MountError` if its daemon does not answer, or its answer is none.

    The place of the mount is taken from the kernel.
    """
    answer, pid = ask_of(entry, FIGURES, seconds=seconds)
    try:
        return parse({**answer, "mountpoint": str(entry.mountpoint), "pid": pid or answer.get("pid")})
    except ValueError as error:
        raise MountError(
            f"{entry.mountpoint}: its daemon's figures are none: {error}; it may be of another vbnfs: mount again"
        ) from error
