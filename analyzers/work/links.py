"""What connects the devices of one machine, and what it carries at most in one direction.

The table is data, ``links.tsv``: one line a kind of device, with the pattern of the name that
drivers give it and where the figures are from. Data sheets count both directions; here is one, as
the bus bandwidth of nccl-tests does. Links between machines are in no data sheet of a device: the
user says theirs.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analyzers.work.roofs import LINK

_GIGA = 1e9
USER_REACHABLE = 0.6
"""Share of a link that the user says; as of NVLink."""


@dataclass(frozen=True, kw_only=True)
class DeviceLink:
    """What a device is connected with.

    Attributes:
        name: Such as ``NVLink``; empty where only the user said how fast it is.
        bytes_per_s: Of all links of a device together, in one direction.
        pair_bytes_per_s: Between two devices, at least, where pairs may have links of their own;
            else 0.
        is_mesh: Whether every board gives each pair just that; else, others have a switch or more
            links for some pairs.
        switch_from: Devices of a machine from which on a switch connects all of them; else 0.
        reachable: Share that collectives of large messages reach: nccl-tests and rccl-tests show
            0.65 to 0.85 of NVLink and Infinity Fabric; over PCIe, data goes through the host's
            memory where devices cannot reach each other.
        source: Where the figures are from.
    """

    name: str
    bytes_per_s: float
    pair_bytes_per_s: float = 0.0
    is_mesh: bool = False
    switch_from: int = 0
    reachable: float = USER_REACHABLE
    source: str = ""

    def rate(self, ranks: int) -> float:
        """Return bytes a second in one direction among some devices of a machine, at most.

        A process may see two of eight devices that a switch connects; which board they are on, no
        recording tells.

        Args:
            ranks: Devices that take part.
        """
        return self._of_pairs(ranks) if self.is_mesh else self.bytes_per_s

    def least_rate(self, ranks: int, visible_devices: int) -> float:
        """Return what the link carries on the slowest board that the devices may be on.

        Args:
            ranks: Devices that take part.
            visible_devices: Devices of the machine that the process saw.
        """
        is_switched = 0 < self.switch_from <= visible_devices
        if is_switched or not self.pair_bytes_per_s:
            return self.bytes_per_s
        return self._of_pairs(ranks)

    def _of_pairs(self, ranks: int) -> float:
        return min(self.bytes_per_s, (ranks - 1) * self.pair_bytes_per_s)


@functools.cache
def _links() -> tuple[tuple[re.Pattern[str], DeviceLink], ...]:
    path = Path(__file__).parent / "links.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return tuple(
        (
            re.compile(row["pattern"]),
            DeviceLink(
                name=row["link"],
                bytes_per_s=float(row["gb_s"]) * _GIGA,
                pair_bytes_per_s=float(row["pair_gb_s"] or 0) * _GIGA,
                is_mesh=bool(row["is_mesh"]),
                switch_from=int(row["switch_from"] or 0),
                reachable=float(row["reachable"]),
                source=row["source"],
            ),
        )
        for row in rows
    )


def link_of(name: str, user_peaks: Mapping[str, float] | None = None) -> DeviceLink | None:
    """Return what connects a device with others of its machine; None where it is not known.

    Args:
        name: Product name as recorded.
        user_peaks: What the user says, as ``parse_peaks`` returns it; its link counts first, for
            groups of several machines, too.
    """
    if user_peaks and LINK in user_peaks:
        return DeviceLink(name="", bytes_per_s=user_peaks[LINK])
    return next((link for pattern, link in _links() if pattern.search(name)), None)
