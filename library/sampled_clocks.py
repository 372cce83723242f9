"""The clocks at which GPUs ran, from what was sampled beside a recording.

They stay with the recording's trace, so that a page, the command line and a prediction judge its
kernels by the same limits, also where the telemetry lies elsewhere by then. Only samples that were
taken while the recording's kernels ran, and in whose period the GPU was in use, are counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from library import kept_answers
from library.sidecars import telemetry_beside

if TYPE_CHECKING:
    from collectors.trace import Trace

FOLDER, FILE = "telemetry-clocks", "clocks.json"
MIN_SAMPLES = 5  # of a GPU; fewer may be of a moment in which the clock still rose
_HZ_OF_MHZ = 1e6


def keep(path: Path, trace: Trace) -> None:
    """Keep the clocks that were sampled beside a recording; without telemetry nothing changes.

    Telemetry that cannot be read tells no clock: the timeline says why it is not shown.

    Args:
        path: The recording.
        trace: What it became.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    samples = telemetry_beside(path)
    if samples is None:
        return
    from collectors.telemetry.file import TelemetryError

    with contextlib.suppress(TelemetryError):
        clocks = _clocks(samples, trace)
        if clocks and clocks != load(trace.folder):
            kept_answers.save(trace.folder / FOLDER / FILE, clocks, 1)


def load(trace_folder: Path) -> Mapping[str, float]:
    """Return the median clock of each GPU in Hz, by NVML's number as a text; empty when unknown."""
    return kept_answers.load(trace_folder / FOLDER / FILE, _decoded) or {}


def _decoded(answer: dict[str, float]) -> dict[str, float]:
    return {str(gpu): float(hz) for gpu, hz in answer.items()}


def _clocks(samples: Path, trace: Trace) -> dict[str, float]:
    import numpy as np  # a stored answer is found without it

    from collectors.telemetry.file import TelemetryFile

    start_utc_ns = trace.source.start_utc_ns
    if start_utc_ns < 0 or not trace.count("kernels"):
        return {}
    times = trace.columns("kernels", ["start_ns", "end_ns"])
    begin, end = int(times["start_ns"].min()), int(times["end_ns"].max())
    names = ["realtime_ns", "monotonic_ns", "utilization_pct", "sm_clock_mhz"]
    clocks = {}
    with TelemetryFile(samples) as file:
        for gpu in file.gpus():
            column = file.columns("gpu_samples", names, gpu=int(gpu["gpu"]))
            time_ns = column["realtime_ns"] - start_utc_ns
            chosen = (time_ns >= begin) & (time_ns <= end) & (column["utilization_pct"] > 0)
            hz = column["sm_clock_mhz"][chosen & (column["sm_clock_mhz"] > 0)] * _HZ_OF_MHZ
            if len(hz) >= MIN_SAMPLES:
                clocks[str(int(gpu["gpu"]))] = float(np.median(hz))
    return clocks
