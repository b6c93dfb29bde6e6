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
    """Files by their places in a mount's tree, and what is done with them; `pin`: what is to hold those fetched."""

    kind: Kind
    places: Sequence[str]
    version: str | None = None
    pin: str | None = None

    @property
    def title(self) -> str:
        """What it is, for people."""
        if self.kind is Kind.VERIFY:
            return f"Verify {self.places[0]}"
        if self.kind is Kind.EVICT:
            return f"Delete {self.places[0]} from the cache"
        return f"{'Fetch ' if self.pin is None else f'Pin {self.pin}: '}{files(len(self.places))}"

    def as_json(self) -> bytes:
        """What `parse_order` takes."""
        return json.dumps(asdict(self)).encode()


def parse_order(data: bytes) -> Order:
    """An order from the disk. Raises `ValueError` for what is none."""
    match json.loads(data):
        case {"kind": str(kind), "places": [*places], "version": version, "pin": pin} if places:
            texts = [*places, *(one for one in (version, pin) if one is not None)]
            if all(isinstance(one, str) and len(one) <= _MOST_LETTERS for one in texts):
                return Order(Kind(kind), tuple(places), version, pin)
    raise ValueError("no order of a page")
