"""What a device allows at most: dense operations by type of data, and memory bandwidth.

The table is data, ``devices.tsv``: one line a device, with the pattern of the name that drivers
give it and where the figures are from. Dense figures, without sparsity; 16-bit products that are
summed in 32 bits, as frameworks do. A field is empty where no source was found.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from analyzers.intervals import Array
from analyzers.work.element_types import CODE_OF, FLOAT, NO_TYPE, TYPES

_TERA, _GIGA, _MEGA = 1e12, 1e9, 1e6
MIN_CLOCK_SHARE, MAX_CLOCK_SHARE = 0.1, 1.5  # beyond, it is not this device's clock
_MEMORY = ("hbm", "memory", "bandwidth", "dram")
LINK = "link"
"""What the user says about what connects the devices, in one direction; see ``links.py``."""
CLOCK = "clock:"
"""Before the physical number of a GPU: its clock in Hz, as it was sampled beside a recording."""
_ON_UNITS = {"fp32": "fp32_matrix", "fp64": "fp64_matrix"}  # where units have their own peak


@dataclass(frozen=True, kw_only=True)
class DeviceRoof:
    """The limits of one device.

    Attributes:
        device: What the table calls it; empty when only given by the user.
        peaks: Operations a second by type; ``fp32_matrix`` and ``fp64_matrix`` are those of units
            for matrices where they differ from the others.
        memory_bytes_per_s: Of device memory; 0 when unknown.
        source: Where the figures are from.
        clock_hz: Clock at which the multiprocessors reach the peak in 16 bits: the figure by their
            number and what each of them does in a clock; 0 when unknown.
        recorded_clock_hz: Clock at which they ran; 0 when unknown.
    """

    device: str = ""
    peaks: Mapping[str, float] = field(default_factory=dict)
    memory_bytes_per_s: float = 0.0
    source: str = ""
    clock_hz: float = 0.0
    recorded_clock_hz: float = 0.0

    @property
    def clock_share(self) -> float:
        """Recorded clock as a part of the one that peaks are for; 1 where either is unknown."""
        share = self.recorded_clock_hz / self.clock_hz if self.clock_hz else 0.0
        return share if MIN_CLOCK_SHARE <= share <= MAX_CLOCK_SHARE else 1.0

    def peak(self, kind: str, *, on_matrix_units: bool) -> float:
        """Return operations a second in a type at the recorded clock, NaN when unknown."""
        return self.clock_share * self.rated_peak(kind, on_matrix_units=on_matrix_units)

    def rated_peak(self, kind: str, *, on_matrix_units: bool) -> float:
        """Return operations a second in a type at the clock of the data sheet, NaN when unknown."""
        if on_matrix_units:
            of_units = self.peaks.get(_ON_UNITS.get(kind, kind), 0.0)
            fallback = self.peaks.get(kind, 0.0)
            return max(of_units, fallback) or np.nan
        # Vector units compute narrow floating-point types no slower than 32-bit ones.
        narrow = kind in CODE_OF and TYPES[CODE_OF[kind]].category == FLOAT and kind != "fp64"
        return self.peaks.get("fp32" if narrow else kind, 0.0) or np.nan

    def peaks_of(self, types: Array, on_matrix_units: Array) -> Array:
        """Return operations a second for places in ``TYPES``, NaN where unknown."""
        table = np.array(
            [
                [self.peak(kind.name, on_matrix_units=on_units) for kind in TYPES] + [np.nan]
                for on_units in (False, True)
            ]
        )
        result: Array = table[on_matrix_units.astype(int), types]
        return result


NO_ROOF = DeviceRoof()


@functools.cache
def _devices() -> tuple[tuple[re.Pattern[str], DeviceRoof], ...]:
    path = Path(__file__).parent / "devices.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    named = ("device", "pattern", "memory_gb_s", "clock_mhz", "source")
    return tuple(
        (
            re.compile(row["pattern"]),
            DeviceRoof(
                device=row["device"],
                peaks={k: float(v) * _TERA for k, v in row.items() if k not in named and v},
                memory_bytes_per_s=float(row["memory_gb_s"] or 0) * _GIGA,
                clock_hz=float(row["clock_mhz"] or 0) * _MEGA,
                source=row["source"],
            ),
        )
        for row in rows
    )


def roof_of(
    name: str, recorded_bytes_per_s: int = -1, user_peaks: Mapping[str, float] | None = None
) -> DeviceRoof:
    """Return the limits of a device.

    Args:
        name: Product name as recorded.
        recorded_bytes_per_s: Bandwidth of its memory that the recording tells, -1 when silent;
            used where the table does not know the device.
        user_peaks: What the user says, as ``parse_peaks`` returns it; it counts before the table.
            Clocks that were sampled beside the recording may stand in it.
    """
    roof = next((roof for pattern, roof in _devices() if pattern.search(name)), NO_ROOF)
    if not roof.memory_bytes_per_s and recorded_bytes_per_s > 0:
        roof = replace(roof, memory_bytes_per_s=float(recorded_bytes_per_s))
    if user_peaks:
        beside = (*_MEMORY, LINK)
        peaks = {k: v for k, v in user_peaks.items() if k not in beside and not k.startswith(CLOCK)}
        memory = next((v for k, v in user_peaks.items() if k in _MEMORY), roof.memory_bytes_per_s)
        roof = replace(roof, peaks={**roof.peaks, **peaks}, memory_bytes_per_s=memory)
        if peaks:
            roof = replace(roof, clock_hz=0.0)  # what the user says is not corrected
    return roof


def parse_peaks(text: str) -> dict[str, float]:
    """Return what ``bf16=989e12,hbm=3.35e12`` says: operations and bytes a second.

    Raises:
        ValueError: It is not of that form; the message is one line.
    """
    names = [kind.name for kind in TYPES if kind.category == FLOAT] + ["int8"]
    known_names = {*names, *_ON_UNITS.values(), *_MEMORY, LINK}
    peaks = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = np.nan
        if name.strip().lower() not in known_names or not (0 < value < np.inf):
            choices = ", ".join([*names, "hbm", LINK])
            msg = f"{part!r} is no peak: write bf16=989e12,hbm=3.35e12 with any of {choices}"
            raise ValueError(msg)
        peaks[name.strip().lower()] = value
    return peaks


def least_seconds(
    roof: DeviceRoof, flop: Array, moved: Array, types: Array, on_matrix_units: Array
) -> tuple[Array, Array]:
    """Return the least time that work takes on a device, and what binds it.

    Work for matrix units in a type whose peak is not known has no least time; other work is never
    bound by a peak that is not known.

    Args:
        roof: The device.
        flop: Operations of each piece of work, NaN unknown.
        moved: Bytes of each, NaN unknown.
        types: Place in ``TYPES`` of each, ``NO_TYPE`` unknown.
        on_matrix_units: Whether matrix units can do it.

    Returns:
        Seconds, NaN where there is no roof; and whether operations bind, not bytes.
    """
    memory = moved / roof.memory_bytes_per_s if roof.memory_bytes_per_s else moved * np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        compute = flop / roof.peaks_of(np.where(types == NO_TYPE, -1, types), on_matrix_units)
    unknown = on_matrix_units & np.isnan(compute)
    seconds = np.where(unknown, np.nan, np.fmax(memory, compute))
    is_compute = np.nan_to_num(compute) > np.nan_to_num(memory)
    return np.where(np.isnan(memory), np.nan, seconds), is_compute
