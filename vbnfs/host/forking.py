"""What a child of fork(2) does first. Windows has no fork."""

import os
from collections.abc import Callable


def after_fork_in_child(function: Callable[[], None]) -> None:
    """Have a function called in each child of this process that is forked from now on."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
