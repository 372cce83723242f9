"""What to call each GPU of a recording."""

from __future__ import annotations

from collections.abc import Sequence

from analyzers.ledger.device import DeviceLedger
from reports.palette import ROW_COLORS as ROW_COLORS
from reports.palette import ROW_MEANINGS as ROW_MEANINGS
from reports.palette import ink_on as ink_on
from views.shared.units import visible


def device_labels(devices: Sequence[DeviceLedger], *, product: bool = True) -> dict[int, str]:
    """Return the words for each device by key; processes are told where numbers repeat."""
    numbers = [d.device for d in devices]
    return {
        d.key: f"GPU {d.device}"
        + (f" {visible(d.name, 40)}" if product and d.name else "")
        + (f" · pid {d.process}" if numbers.count(d.device) > 1 and d.process >= 0 else "")
        for d in devices
    }
