"""What became of one file that a command went through: `vbnfs import` and `vbnfs export` have words of their own."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one file. `outcome` is one of the command's words, `detail` the reason where there is one."""

    path: str
    outcome: str
    size_bytes: int
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding with its fields' names."""
        return asdict(self)
