"""What the kernel lets this process do besides what its user may: capabilities(7)."""

import re
from pathlib import Path
from typing import Final

DAC_OVERRIDE: Final = 1  # to read what modes forbid; the numbers are those of <linux/capability.h>
DAC_READ_SEARCH: Final = 2
SYS_ADMIN: Final = 21  # to mount, in this process's user namespace

_STATUS: Final = Path("/proc/self/status")


def has_capability(number: int) -> bool:
    """Whether this process has it; False where that cannot be read."""
    try:
        match = re.search(r"^CapEff:\s*([0-9a-f]+)$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return False
    return match is not None and bool(int(match[1], 16) >> number & 1)
