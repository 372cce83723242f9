"""What one recording brings to a comparison: every quantity, iteration by iteration.

Small whatever the recording's size, so that it is kept, and two recordings of a million kernels
are compared without being read again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from analyzers.intervals import Array

OTHERS = "all other kernels"
WORK_AMOUNTS = OPERATOR_FLOP, OPERATOR_BYTES = "operator FLOP", "operator traffic"
"""Names in ``Side.counts`` of what modelled operators compute, and move at least."""
GRAPH_NAME = "CUDA graph, recorded as a whole"


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseTable:
    """A quantity by iteration and by kernel or region, where it is not 0.

    Attributes:
        iteration: Number of the iteration.
        column: Number of the kernel or region.
        ns: Time.
        count: How often.
    """

    iteration: Array
    column: Array
    ns: Array
    count: Array

    def dense(self, values: Array, iterations: int, columns: int) -> Array:
        """Return ``values`` (``ns`` or ``count``) as a table, a row an iteration."""
        places = self.iteration.astype(np.int64) * columns + self.column
        sums = np.bincount(places, values, minlength=iterations * columns)
        table: Array = sums.reshape(iterations, columns)
        return table


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """Kernels by name and launch configuration, most time first.

    Attributes:
        names: Full names.
        short_names: Names without template arguments and parameters.
        shapes: Grid and block, six columns; -1 where not recorded.
        longest: Begin and end of the longest launch in a typical iteration, -1 for none.
        sequence: The launches of a typical iteration, in the order in which they began.
        by_iteration: Summed durations and launches.
        resources: Registers a thread and bytes of shared memory a block, two columns; -1 where
            not recorded.
        sequence_ns: Duration of each launch of ``sequence``.
        sequence_work: What each launch of ``sequence`` worked on, a place in ``SideWork.keys``;
            -1 where that is not known.
        sequence_range: Innermost range around each launch of ``sequence``, a place in ``ranges``.
        ranges: Names of ranges; the first is empty, for none.
    """

    names: tuple[str, ...]
    short_names: tuple[str, ...]
    shapes: Array
    longest: Array
    sequence: Array
    by_iteration: SparseTable
    resources: Array
    sequence_ns: Array
    sequence_work: Array
    sequence_range: Array
    ranges: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class LaunchTimes:
    """Single launches of a run with few iterations, to be paired with those of another run.

    Attributes:
        column: Number of the kernel.
        ordinal: Number of the launch among those of the same name, from 0, warm-up left out.
        start_ns: Begin.
        ns: Duration.
        cut: Places among these launches at whose begin the ledger was cut.
        ledger_before_ns: What each row of the ledger holds up to there, one column a row.
    """

    column: Array
    ordinal: Array
    start_ns: Array
    ns: Array
    cut: Array
    ledger_before_ns: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """The ledger by region of the program.

    Attributes:
        keys: Level, name and row of the ledger.
        longest: Begin and end of the longest stretch in a typical iteration, else in any after the
            warm-up; -1 when there is none.
        by_iteration: Time.
    """

    keys: tuple[tuple[str, str, str], ...]
    longest: Array
    by_iteration: SparseTable


class WorkKey(NamedTuple):
    """What kernel time is spent on: equal on two sides when they do the same work.

    Attributes:
        work_class: A ``WorkClass``.
        operator: Name; empty for a kernel without one.
        shapes: Of its inputs, a JSON list; empty where not recorded.
        types: Of its inputs, a JSON list.
        kernel: Name of a kernel without an operator.
    """

    work_class: str
    operator: str
    shapes: str
    types: str
    kernel: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class SideWork:
    """The kernel time by what it is spent on, most time first.

    Attributes:
        keys: What.
        longest: Begin and end of the longest launch in a typical iteration, -1 for none.
        least_ns: Least time that the device allows for one call, 0 where that is not known.
        by_iteration: Kernel time, which launches at the same time share, and calls.
    """

    keys: tuple[WorkKey, ...]
    longest: Array
    least_ns: Array
    by_iteration: SparseTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One recording, ready to be compared; all arrays have a place (or row) an iteration.

    Attributes:
        source: ``name``, ``format``, ``tool_version``, ``schema_version``, ``sha256``; ``rank`` and
            ``world_size`` of a distributed job, ``start_utc_ns``, empty when not recorded.
        gpus: Product names, sorted.
        devices: Names of the ledger's devices.
        device: Place of the one that is compared in ``devices``, -1 when there is none.
        request: The window that was asked for.
        window: How the iterations, or the one window, were chosen, in words.
        loop: Name that all iterations share; empty when the window is one sample.
        is_loop_found: Whether iterations are a pattern in what is launched, which nobody marked
            or asked for.
        start_ns: Begins.
        end_ns: Ends.
        warm_up: Iterations at the beginning that differ from the others.
        warm_up_how: How that was found.
        typical: Number of the iteration whose duration is nearest to the median.
        ledger_ns: The account of each iteration, one column a row of ``ROWS``; sums to its length.
        row_places: Begin and end of each row's longest stretch in the typical iteration, else -1.
        counts: Further quantities by name.
        roles_ns: What ran, one column for each of ``analyzers.facts.steps.ROLES``; without rows
            when that was not recorded.
        kernels: By name and launch configuration.
        launch_times: Launches to pair; none where there are iterations enough.
        regions: By region.
        work: By class, operator and inputs.
        operators: How often each operator ran with inputs of each shape, per iteration.
        ranges: By name, how often each range of the program came in the whole recording, and how
            long they took together in ns; those with most time.
        peak_bytes: Most memory in use, by name.
        sm_clock_mhz: Mean clock, ``None`` when not sampled.
        operations: GPU operations in the whole recording.
        counters_only: Whether the recording is one of counters, without a timeline.
        quality: ``level``, ``code`` and ``message`` of what is known about the capture.
        trace_id: Id in the library.
        summary: What the workload wrote about itself (``.workload.json``), empty when nothing.
        telemetry: What was sampled beside the recording: ``name`` to value.
    """

    source: dict[str, str]
    gpus: tuple[str, ...]
    devices: tuple[str, ...]
    device: int
    request: str
    window: str
    loop: str
    is_loop_found: bool
    start_ns: Array
    end_ns: Array
    warm_up: int
    warm_up_how: str
    typical: int
    ledger_ns: Array
    row_places: Array
    counts: dict[str, Array]
    roles_ns: Array
    kernels: Kernels
    launch_times: LaunchTimes
    regions: Regions
    work: SideWork
    operators: dict[tuple[str, str], float]
    ranges: dict[str, tuple[int, int]]
    peak_bytes: dict[str, int]
    sm_clock_mhz: float | None
    operations: int
    counters_only: bool
    quality: tuple[tuple[str, str, str], ...] = ()
    trace_id: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    telemetry: dict[str, Any] = field(default_factory=dict)

    @property
    def durations_ns(self) -> Array:
        """Length of each iteration."""
        lengths: Array = self.end_ns - self.start_ns
        return lengths

    @property
    def kept(self) -> slice:
        """The iterations after the warm-up."""
        return slice(self.warm_up, None)

    def with_sidecar(
        self, summary: dict[str, Any], telemetry: dict[str, Any], trace_id: str, name: str
    ) -> Side:
        """Return the same side with the files that lie beside the recording.

        A workload that states how many of its steps were warm-up is trusted if the number of its
        steps matches the iterations.
        """
        side = dataclasses.replace(
            self,
            summary=summary,
            telemetry=telemetry,
            trace_id=trace_id,
            source={**self.source, "name": name},
        )
        warm_up, measured = _whole(summary.get("warmup")), _whole(summary.get("steps"))
        fits = self.loop and len(self.start_ns) in (warm_up + measured, warm_up + measured - 1)
        if not warm_up or not measured or not fits or warm_up >= len(self.start_ns) - 1:
            return side
        how = f"the workload states {warm_up} steps of warm-up"
        return dataclasses.replace(side, warm_up=warm_up, warm_up_how=how)


Sides = Sequence[Side]
"""Recordings of one side of a comparison, in the order given."""


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
