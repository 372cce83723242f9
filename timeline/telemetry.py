"""Telemetry as lanes of a recording's timeline, where the clocks of the two can be aligned.

Samples carry the wall clock and a clock that is never set; a recording says when its time zero was
by the wall clock. Near the recording one becomes the other by a constant. Where it is none, because
somebody set the clock, or where the recording is silent, nothing is drawn and a note says why.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from analyzers.words import time_text
from collectors.schema import Array
from collectors.telemetry.file import TelemetryError, TelemetryFile
from collectors.telemetry.schema import THROTTLE_WORDS
from collectors.trace import Trace
from common.files import replacing_folder
from library.cache import job_running
from library.sidecars import telemetry_beside, telemetry_folder
from timeline.index import Index, IndexDamagedError, is_intact
from timeline.index_writer import IndexWriter
from timeline.lane import NOTHING, Group, Lane

MAX_CLOCK_STEP_NS = 100_000_000  # one sample; daemons that slew a clock stay far below
HELD_PERIODS = 3  # a sample says nothing about what comes later: its source may be gone
AROUND_NS = 5_000_000_000  # samples this close to a recording tell how its clock stood


class LaneColumn(NamedTuple):
    """A column that becomes a lane; ``before`` when a value is about the time since the last."""

    column: str
    label: str
    unit: str
    factor: float = 1.0
    before: bool = False


GPU_LANES = (
    LaneColumn("utilization_pct", "GPU in use", "%", before=True),
    LaneColumn("memory_utilization_pct", "memory busy", "%", before=True),
    LaneColumn("memory_used_bytes", "memory used", "B"),
    LaneColumn("process_memory_bytes", "memory used by the program", "B"),
    LaneColumn("power_w", "power", "W"),
    LaneColumn("sm_clock_mhz", "SM clock", "Hz", 1e6),
    LaneColumn("memory_clock_mhz", "memory clock", "Hz", 1e6),
    LaneColumn("temperature_c", "temperature", "°C"),
    LaneColumn("pcie_tx_bytes_per_s", "PCIe sent", "B/s"),
    LaneColumn("pcie_rx_bytes_per_s", "PCIe received", "B/s"),
)
HOST_LANES = (LaneColumn("cpu_pct", "CPU, all cores", "%", before=True),)
PROCESS_LANES = (
    LaneColumn("cpu_pct", "program CPU, 100 % per core", "%", before=True),
    LaneColumn("rss_bytes", "resident memory", "B"),
    LaneColumn("threads", "threads", ""),
)
RATE_LANES = (  # counters that only grow, as what they grew by a second
    LaneColumn("read_bytes", "storage read", "B/s"),
    LaneColumn("written_bytes", "storage written", "B/s"),
    LaneColumn("voluntary_switches", "voluntary context switches", "/s"),
    LaneColumn("involuntary_switches", "involuntary context switches", "/s"),
)


@dataclass(frozen=True)
class ClockOffset:
    """How to turn a sample's monotonic time into the recording's.

    Attributes:
        offset_ns: To add.
    """

    offset_ns: int


@dataclass(frozen=True)
class ClockMismatch:
    """Why the two clocks cannot be aligned, as a sentence without its end."""

    reason: str


def align(
    realtime: Array, monotonic: Array, start_utc_ns: int, span: tuple[int, int]
) -> ClockOffset | ClockMismatch:
    """Find how samples lie on a recording's clock.

    Args:
        realtime: Moments of samples on the wall clock, in their order.
        monotonic: The same moments on the clock that is never set.
        start_utc_ns: Wall clock at the recording's time zero; negative when it does not say.
        span: First and last moment of the recording, on its own clock.
    """
    if start_utc_ns < 0:
        return ClockMismatch("the recording has no start time")
    begin, end = (start_utc_ns + moment for moment in span)
    near = (realtime >= begin - AROUND_NS) & (realtime <= end + AROUND_NS)
    covers = (realtime >= begin - AROUND_NS // 10) & (realtime <= end + AROUND_NS // 10)
    if not covers.any():
        return ClockMismatch(
            "it was sampled at a different time from the recording, or on a different clock"
        )
    difference = realtime[near] - monotonic[near]
    step = int(difference.max() - difference.min())
    if step > MAX_CLOCK_STEP_NS:
        return ClockMismatch(
            f"the machine's clock was adjusted by {time_text(step)} in the meantime"
        )
    nearest = int(np.argmin(np.abs(realtime[near] - begin)))
    return ClockOffset(int(difference[nearest]) - start_utc_ns)


def telemetry_index(trace: Trace) -> Index | None:
    """Return the lanes of what was sampled beside a recording; None without telemetry."""
    folder = telemetry_folder(trace.folder)
    try:
        return Index.open(folder) if folder.is_dir() else None
    except IndexDamagedError:  # made again when the recording is opened from its place
        shutil.rmtree(folder, ignore_errors=True)
        return None


def add_telemetry_index(path: Path, trace: Trace, span: tuple[int, int]) -> None:
    """Write the lanes of what was sampled beside the recording at ``path``, unless they are there.

    Args:
        path: The recording.
        trace: What it became.
        span: First and last moment of its events.

    Raises:
        OSError: The disk cannot be written.
    """
    target, samples = telemetry_folder(trace.folder), telemetry_beside(path)
    if samples is None or target.exists():
        return
    with (
        job_running(),
        replacing_folder(target, is_intact) as draft,
        contextlib.closing(IndexWriter(draft)) as writer,
    ):
        _write(samples, trace, span, writer)


def _write(path: Path, trace: Trace, span: tuple[int, int], writer: IndexWriter) -> None:
    try:
        with TelemetryFile(path) as file:
            reason = _write_lanes(file, trace, span, writer)
    except TelemetryError as error:
        reason = str(error)
    if reason:
        writer.notes.append(f"The telemetry file next to the recording is not shown: {reason}.")
    writer.names(pa.array([], pa.large_string()))
    writer.finish(origin_ns=span[0])


def _write_lanes(
    file: TelemetryFile, trace: Trace, span: tuple[int, int], writer: IndexWriter
) -> str:
    """Write all lanes; return why there are none, empty when there are."""
    moments = file.columns("host_samples", ["realtime_ns", "monotonic_ns"])
    realtime, monotonic = moments["realtime_ns"], moments["monotonic_ns"]
    clocks = align(realtime, monotonic, trace.source.start_utc_ns, span)
    if isinstance(clocks, ClockMismatch):
        return clocks.reason
    lanes = _Lanes(file, writer, clocks.offset_ns - span[0], span[1] - span[0])
    for gpu in file.gpus():
        number, name = int(gpu["gpu"]), str(gpu["name"] or "")
        title = f"GPU {number} telemetry" + (f" · {name}" if name else "")
        with_lanes = lanes.of("gpu_samples", GPU_LANES, gpu=number)
        lanes.write(f"telemetry:gpu:{number}", title, [*with_lanes, *lanes.throttling(number)])
    host = [*lanes.of("host_samples", HOST_LANES), *lanes.of("process_samples", PROCESS_LANES)]
    lanes.write("telemetry:host", "Host telemetry", [*host, *lanes.rates()])
    period_ns = int(np.median(np.diff(monotonic))) if len(monotonic) > 1 else 0
    if writer.lanes and period_ns > span[1] - span[0]:
        writer.notes.append(
            f"Telemetry was sampled every {time_text(period_ns)}, which is longer than the "
            "recording: each sample also covers time outside it."
        )
    return "" if writer.lanes else "no sample was taken during the recording"


@dataclass(frozen=True)
class _Lanes:
    """The columns of a file, on the timeline's clock."""

    file: TelemetryFile
    writer: IndexWriter
    offset_ns: int
    duration_ns: int

    def write(self, group_id: str, title: str, lanes: list[tuple[Lane, Array, Array]]) -> None:
        """Write a group of lanes, if there are any."""
        if not lanes:
            return
        group = self.writer.group(Group(id=group_id, kind="metrics", title=title))
        for lane, time, value in lanes:
            if len(time):
                self.writer.counter(replace(lane, group=group), time, value)

    def of(
        self, table: str, columns: tuple[LaneColumn, ...], gpu: int = -1
    ) -> Iterator[tuple[Lane, Array, Array]]:
        """Yield a lane for each column that has any value."""
        for lane, time, value in self._read(table, columns, gpu):
            if lane.before:
                time, value = time[:-1], value[1:]
            yield self._cut(lane.label, lane.unit, time, value * lane.factor)

    def rates(self) -> Iterator[tuple[Lane, Array, Array]]:
        """Yield a lane for each counter that grows: its increase per second."""
        for lane, time, value in self._read("process_samples", RATE_LANES):
            if len(time) < 2:
                continue
            grown, seconds = np.diff(value), np.maximum(np.diff(time), 1) / 1e9
            # One that falls begins anew, with another program.
            rate = np.maximum(grown, 0) / seconds
            if rate.any():
                yield self._cut(lane.label, lane.unit, time[:-1], rate)

    def throttling(self, gpu: int) -> Iterator[tuple[Lane, Array, Array]]:
        """Yield a lane, 0 or 1, for each reason why the clocks were throttled."""
        column = (LaneColumn("throttle_bits", "", ""),)
        for _, time, value in self._read("gpu_samples", column, gpu):
            bits = np.clip(value, 0, 2**53).astype(np.int64)
            for bit, word in THROTTLE_WORDS.items():
                if (bits & bit).any():
                    held = ((bits & bit) > 0).astype(float)
                    yield self._cut(f"clocks throttled: {word}", "", time, held)

    def _read(
        self, table: str, columns: tuple[LaneColumn, ...], gpu: int = -1
    ) -> Iterator[tuple[LaneColumn, Array, Array]]:
        names = ["realtime_ns", "monotonic_ns", *(c.column for c in columns)]
        recorded = self.file.columns(table, names, gpu=gpu)
        time = recorded["monotonic_ns"] + self.offset_ns
        order = np.argsort(time, kind="stable")
        for lane in columns:
            rows = order[np.isfinite(recorded[lane.column][order])]
            if len(rows):
                yield lane, time[rows], recorded[lane.column][rows]

    def _cut(self, label: str, unit: str, time: Array, value: Array) -> tuple[Lane, Array, Array]:
        """Keep what lies in the timeline, and the sample that holds at its begin."""
        held_ns = HELD_PERIODS * int(np.median(np.diff(time))) if len(time) > 1 else 0
        low = max(int(np.searchsorted(time, 0, side="right")) - 1, 0)
        low += bool(len(time)) and int(time[low]) < -held_ns
        high = max(int(np.searchsorted(time, self.duration_ns, side="right")), low)
        until = int(min(time[high - 1] + held_ns, self.duration_ns)) if high > low else NOTHING
        lane = Lane(group=0, label=label, unit=unit, until=until)
        return lane, np.maximum(time[low:high], 0), value[low:high]
