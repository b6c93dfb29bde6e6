"""What a job of the page is to do, as a value: so that it can be asked for again, also by a later page (pure)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from vbnfs.amounts import files

_MOST_LETTERS: Final = 1024  # of a place, a version, a pin


class Kind(StrEnum):
    """What is done with files."""

    FETCH = "fetch"
    VERIFY = "verify"
    EVICT = "evict"


@dataclass(frozen=True, slots=True)
class Order:
    """Files and folders by their places in a mount's tree, and what is done with them.

    `pin`: what is to hold those fetched. `lfp`: which LFP of folders is fetched, as `Wanted` has it.
    """

    kind: Kind
    places: Sequence[str]
    version: str | None = None
    pin: str | None = None
    lfp: str = "no"

    @property
    def title(self) -> str:
        """What it is, for people."""
        if self.kind is Kind.VERIFY:
            return f"Verify {self.places[0]}"
        if self.kind is Kind.EVICT:
            return f"Delete {self.places[0]} from the cache"
        what = self.places[0].rpartition("/")[2] if len(self.places) == 1 else files(len(self.places))
        return f"{'Fetch ' if self.pin is None else f'Pin {self.pin}: '}{what}"

    def as_json(self) -> bytes:
        """What `parse_order` takes."""
        return json.dumps(asdict(self)).encode()


def parse_order(data: bytes) -> Order:
    """An order from the disk. Raises `ValueError` for what is none."""
    match json.loads(data):
        case {"kind": str(kind), "places": [*places], "version": version, "pin": pin, "lfp": "yes" | "no" as lfp} if (
            places
        ):
            texts = [*places, *(one for one in (version, pin) if one is not None)]
            if all(isinstance(one, str) and len(one) <= _MOST_LETTERS for one in texts):
                return Order(Kind(kind), tuple(places), version, pin, lfp)
    raise ValueError("no order of a page")
