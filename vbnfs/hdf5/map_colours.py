"""The colours of a map: they differ for eyes of any colour vision (pure).

They are those of Masataka Okabe and Kei Ito, "Color Universal Design" (jfly.uni-koeln.de/color, 2008).
"""

from collections.abc import Sequence
from typing import Final

from vbnfs.hdf5.file_map import Part

_ARRAYS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#f0e442", "#56b4e9")
_STRUCTURE: Final = "#808080"
_OTHER: Final = "#c0c0c0"


def colours_of(parts: Sequence[Part]) -> list[str]:
    """A colour for each part, as #rrggbb."""
    arrays = iter(_ARRAYS)
    kinds = {"structure": _STRUCTURE, "other": _OTHER}
    return [kinds[part.kind] if part.kind in kinds else next(arrays) for part in parts]


def pale(colour: str) -> str:
    """The same colour, a quarter as strong on white."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{255 - (255 - part) // 4:02x}" for part in parts)
