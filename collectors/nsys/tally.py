"""How many rows of an input table were used, and what was odd about the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from collectors.schema import NOT_RECORDED, Array

EXCLUDED, REPAIRED, NOTED = "excluded", "repaired", "noted"
Oddity = tuple[str, str, str]  # code, effect and message
Note = Callable[[str, Oddity, int], None]  # called with the table and the rows concerned


@dataclass
class NsysTally:
    """Use of one input table's rows, and what was odd about them.

    Attributes:
        rows: Rows read so far.
        used: Rows that the trace holds.
        oddities: Rows concerned by each.
        last_end_ns: The latest end of any row, -1 before there is one.
    """

    rows: int = 0
    used: int = 0
    oddities: dict[Oddity, int] = field(default_factory=dict)
    last_end_ns: int = NOT_RECORDED

    def note(self, code: str, effect: str, message: str, count: int) -> None:
        """Count rows that are odd in one way."""
        key = (code, effect, message)
        self.oddities[key] = self.oddities.get(key, 0) + count

    def saw_end(self, end_ns: Array) -> None:
        """Remember the latest end."""
        if len(end_ns):
            self.last_end_ns = max(self.last_end_ns, int(end_ns.max()))

    def excluded(self) -> int:
        """Return how many rows are not used."""
        return sum(n for (_, effect, _), n in self.oddities.items() if effect == EXCLUDED)
