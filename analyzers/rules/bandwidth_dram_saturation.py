"""Kernels that run at the limit of device memory.

What it looks for:
    Samples of the GPU's metrics in which reading and writing device memory together reach 80 %
    of the peak while a kernel runs. A sample speaks for the time since the sample before it.

Why it is slow:
    No kernel gets more bytes per second than the memory delivers. More threads, more blocks and
    faster arithmetic change nothing then.

What to try:
    Move fewer bytes: fuse neighbouring element-wise operations, use smaller types, keep in
    registers or shared memory what is read twice, read only what is needed.

When it does not apply:
    When the kernels already move each byte once: then the memory is well used, and only a
    different algorithm helps.

The loss is the kernel time at the limit: what moving fewer bytes can win back at most. Launches
that a parallelism rule counts are left out, so that nothing is claimed twice.

Shown by:
    traces/synthetic/synthetic_dram.sqlite
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analyzers.facts import KERNEL, Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row, Skipped
from analyzers.intervals import Array, Spans, covered, intersect, subtract, union
from analyzers.ledger import ROW_CODE, Ledger
from analyzers.parallelism import Parallelism, is_notable, kernel_losses, largest_kernels
from analyzers.words import time_text

CAUSE = Cause.BANDWIDTH

SATURATED_PCT = 80.0  # of the peak; where Nsight Compute, too, begins to speak of high throughput
MAX_PCT = 120.0  # a larger value is not in percent, and means something else
LONGEST_PERIODS = 2  # after a hole in the sampling, a sample speaks for no more than this
RECORD = "record with `nsys profile --gpu-metrics-devices=all`"

_TRAFFIC = re.compile(r"\b(?:DRAM|VRAM)\b.*\b(?:Read|Write)\b", re.IGNORECASE)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernel time in samples at the limit of device memory."""
    if not facts.trace.count("gpu_metrics"):
        return Skipped(f"the GPU's metrics were not sampled; {RECORD}")
    samples = _traffic(facts)
    if samples.empty:
        return Skipped(f"no metric of device memory in percent was sampled; {RECORD}")
    at_limit = {key: _at_limit(samples, facts, key) for key in range(len(facts.devices))}
    if all(spans is None for spans in at_limit.values()):
        return Skipped(f"which GPU the metrics belong to is not recorded; {RECORD}")
    free = {k: _unclaimed(facts, ledger, k, s) for k, s in at_limit.items() if s is not None}
    lost_ns = sum(spans.total for spans in free.values())
    if not is_notable(ledger, lost_ns):
        return Clear()
    kernel_ns = ledger.total_ns(Row.KERNEL)
    return Finding(
        title=(
            f"Device memory was at {SATURATED_PCT:.0f} % of its peak or above during "
            f"{time_text(lost_ns)} of {time_text(kernel_ns)} of kernel time, "
            f"{ledger.share(lost_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice="Move fewer bytes: fuse element-wise kernels, or use smaller types.",
        does_not_apply_when="the kernels already move each byte only once.",
        evidence=(
            Evidence(name="highest sampled traffic", value=float(samples["pct"].max()), unit="pct"),
            *largest_kernels(facts, _kernels_inside(facts, ledger, free), "time at the limit in"),
        ),
    )


def _traffic(facts: Facts) -> pd.DataFrame:
    """Return ``gpu``, ``time_ns`` and ``pct``: reading and writing together, by time."""
    ids = np.unique(facts.trace.columns("gpu_metrics", ["name_id"])["name_id"])
    wanted = [i for i, n in zip(ids, facts.trace.names(ids), strict=True) if _TRAFFIC.search(n)]
    # Piece by piece: there are a dozen other metrics for every two that are wanted.
    pieces = (b.to_pandas() for b in facts.trace.batches("gpu_metrics"))
    rows = pd.concat([p[p["name_id"].isin(wanted)] for p in pieces], ignore_index=True)
    rows = rows.rename(columns={"value": "pct"})
    if rows["pct"].max() > MAX_PCT:
        rows = rows.iloc[:0]
    sums: pd.DataFrame = rows.groupby(["gpu", "time_ns"])["pct"].sum().reset_index()
    return sums


def _at_limit(samples: pd.DataFrame, facts: Facts, key: int) -> Spans | None:
    """Return when the memory of a device was at its limit; None when no samples are its."""
    gpus = samples["gpu"].unique()
    physical = int(facts.devices["physical"].iloc[key])
    if physical not in gpus and len(gpus) == len(facts.devices) == 1:
        physical = int(gpus[0])  # the only GPU, whatever its number
    mine = samples[samples["gpu"] == physical]
    if len(mine) < 2:
        return None
    time = mine["time_ns"].to_numpy()
    period = np.diff(time)
    begin = time[1:] - np.minimum(period, LONGEST_PERIODS * int(np.median(period)))
    saturated = mine["pct"].to_numpy()[1:] >= SATURATED_PCT
    return union(begin[saturated], time[1:][saturated])


def _unclaimed(facts: Facts, ledger: Ledger, key: int, at_limit: Spans) -> Spans:
    """Return the ledger's kernel time inside ``at_limit``, without launches of other rules."""
    segments = ledger.segments
    kernel = (segments["device"] == key) & (segments["row"] == ROW_CODE[Row.KERNEL])
    mine = segments[kernel.to_numpy()]
    busy = union(mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy())
    free = intersect(busy, at_limit)
    if not len(free.start):
        return free
    claimed = np.concatenate([_claimed(facts, ledger, p) for p in Parallelism])
    claimed = claimed[facts.launches["device"].to_numpy()[claimed] == key]
    start = facts.launches["start_ns"].to_numpy()[claimed]
    return subtract(free, union(start, facts.launches["end_ns"].to_numpy()[claimed]))


def _claimed(facts: Facts, ledger: Ledger, pattern: Parallelism) -> Array:
    losses = kernel_losses(facts, ledger, pattern)
    rows: Array = losses["launch"].to_numpy()
    return rows if is_notable(ledger, int(losses["lost_ns"].sum())) else rows[:0]


def _kernels_inside(facts: Facts, ledger: Ledger, free: dict[int, Spans]) -> pd.DataFrame:
    """Return ``launch`` and ``lost_ns`` of the kernels that ran in ``free`` of their device."""
    rows = facts.inside(ledger.window.start_ns, ledger.window.end_ns)
    rows = rows[facts.launches["kind"].to_numpy()[rows] == KERNEL]
    start, end = (facts.launches[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
    device = facts.launches["device"].to_numpy()[rows]
    lost = np.zeros(len(rows), np.int64)
    for key, spans in free.items():
        mine = device == key
        lost[mine] = covered(Spans(start[mine], end[mine]), spans)
    return pd.DataFrame({"launch": rows, "lost_ns": lost})[lost > 0]
