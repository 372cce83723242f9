"""Kernels that run at the limit of device memory.

What it looks for:
    Samples of the GPU's metrics in which reading and writing device memory together reach 80 %
    of the peak while a kernel runs. A sample covers the time since the previous one.

Why it is slow:
    No kernel gets more bytes per second than the memory delivers. More threads, more blocks and
    faster arithmetic then change nothing.

What to try:
    Move fewer bytes: fuse neighbouring element-wise operations, use smaller types, keep in
    registers or shared memory what is read twice, read only what is needed.

When it does not apply:
    When the kernels already move each byte once: then the memory is well used, and only a
    different algorithm helps.

The loss is the kernel time at the limit: what moving fewer bytes can win back at most. Time in
which pages of unified memory were on their way is left out when another rule counts it, so that
nothing is claimed twice.

Shown by:
    traces/synthetic/synthetic_dram.sqlite
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import KERNEL, Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row, Skipped
from analyzers.intervals import Spans, covered
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_memory import (
    SATURATED_PCT,
    highest_pct,
    is_notable,
    saturated,
    traffic,
)
from analyzers.losses.parallelism import largest_kernels
from analyzers.recorder import recorder_of
from analyzers.words import time_text

CAUSE = Cause.BANDWIDTH


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernel time in samples at the limit of device memory."""
    metrics = recorder_of(facts.trace).metrics
    if not facts.trace.count("gpu_metrics"):
        return Skipped(f"the GPU's metrics were not sampled; {metrics}")
    if traffic(facts).empty:
        return Skipped(f"no device-memory metric in percent was sampled; {metrics}")
    at_limit = saturated(facts, ledger)
    if not at_limit:
        return Skipped(f"the recording does not say which GPU the metrics belong to; {metrics}")
    lost_ns = sum(spans.total for spans in at_limit.values())
    if not is_notable(ledger, lost_ns):
        return Clear()
    kernel_ns = ledger.kernel_ns
    highest = highest_pct(facts, ledger)
    return Finding(
        title=(
            f"Device memory was at {SATURATED_PCT:.0f} % of its peak or above for "
            f"{time_text(lost_ns)} of {time_text(kernel_ns)} of kernel time, "
            f"{ledger.share(lost_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice="Move fewer bytes: fuse element-wise kernels, or use smaller types.",
        does_not_apply_when="the kernels already move each byte only once.",
        evidence=(
            Evidence(name="highest sampled traffic", value=highest, unit="pct"),
            *largest_kernels(
                facts, _kernels_inside(facts, ledger, at_limit), "time at the limit in"
            ),
        ),
    )


def _kernels_inside(facts: Facts, ledger: Ledger, at_limit: dict[int, Spans]) -> pd.DataFrame:
    """Return ``launch`` and ``lost_ns`` of the kernels that ran in ``at_limit``."""
    rows = facts.inside(ledger.window.start_ns, ledger.window.end_ns)
    rows = rows[facts.launches["kind"].to_numpy()[rows] == KERNEL]
    start, end = (facts.launches[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
    device = facts.launches["device"].to_numpy()[rows]
    lost = np.zeros(len(rows), np.int64)
    for key, spans in at_limit.items():
        on_device = device == key
        lost[on_device] = covered(Spans(start[on_device], end[on_device]), spans)
    return pd.DataFrame({"launch": rows, "lost_ns": lost})[lost > 0]
