"""What has to hold of a course, and what was found (pure)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gate:
    """What has to hold, and what was found."""

    name: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit
