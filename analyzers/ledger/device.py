"""The closed account of one device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from analyzers.finding import Row


@dataclass(frozen=True, kw_only=True)
class DeviceLedger:
    """The closed account of one device; the rows sum to ``duration_ns``.

    Attributes:
        key: Number of the device in this report, as evidence and segments use it.
        device: CUDA device number.
        process: Pid that used it; -1 when several did.
        name: Product name, empty when not recorded.
        duration_ns: Length of the window.
        busy_ns: Time in which at least one operation ran.
        rows: Nanoseconds by row; absent rows are 0.
        unused_ns: Part of the row ``host`` before the first and after the last operation of this
            device; no verdict is drawn from it.
        unexplained: Nanoseconds by reason; sums to the row ``unexplained``.
    """

    key: int
    device: int
    process: int
    name: str
    duration_ns: int
    busy_ns: int
    rows: dict[Row, int]
    unused_ns: int = 0
    unexplained: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def in_use_ns(self) -> int:
        """The time between its first and last operation: what is judged."""
        return self.duration_ns - self.unused_ns
