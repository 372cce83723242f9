"""How long profiled launches took."""

from __future__ import annotations

import numpy as np

from analyzers.facts.counters import Counters
from analyzers.intervals import Array
from analyzers.metric_names import DURATION


def launch_duration_ns(counters: Counters) -> Array:
    """Return how long each launch took under the profiler, NaN where nothing tells."""
    duration = counters.metric(*DURATION)
    if "duration_ns" in counters.profiled:  # some recordings tell it by cycles and clock alone
        recorded_ns = counters.profiled["duration_ns"].to_numpy().astype(float)
        duration = np.where(np.isnan(duration), recorded_ns, duration)
    return duration
