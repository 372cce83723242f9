"""The GPU's own pauses between operations that were queued in time.

What it looks for:
    Idle time between operations whose launch call had returned before the GPU ran dry, and
    between the nodes of one CUDA graph: the host was in time.

Why it is slow:
    The GPU itself needs one or two microseconds to finish one operation and begin the next. That
    is nothing beside a kernel of a millisecond, and a quarter of the time beside one of 6 µs.

What to try:
    Run fewer, larger kernels: fuse neighbouring operations (``torch.compile``), or batch. A CUDA
    graph makes the pauses shorter, but does not remove them.

When it does not apply:
    When each kernel needs the result of the one before, and the two cannot be fused.

Shown by:
    tests/scenarios.py, ``device_gaps``
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_launches
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.timeline import LaunchPattern, launch_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.LAUNCH
NEEDS = ("api_calls",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launch time that the device itself spent between queued operations."""
    segments = launch_losses(facts, ledger, LaunchPattern.DEVICE_GAP)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    pauses = segments.drop_duplicates("launch")
    in_graphs = int(pauses["inside_graph"].sum())
    pause = float(np.median(pauses["waited_ns"]))
    how_many = "all" if in_graphs == len(pauses) else f"{in_graphs:,}"
    in_graphs_text = f", {how_many} of them inside CUDA graphs" if in_graphs else ""
    culprits = of_launches(facts, ledger, segments)
    mostly_graphs = 2 * in_graphs > len(pauses)
    return Finding(
        title=(
            f"The {gpus(ledger)} paused {count_text(len(pauses), 'time')} between operations that "
            f"were already queued{in_graphs_text}: {time_text(pause)} each (median), "
            f"{time_text(lost_ns)} in total, {ledger.share(lost_ns)}{culprits.words()}"
        ),
        row=Row.LAUNCH,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=(
            "Run fewer, larger kernels in the graph: fuse or batch them."
            if mostly_graphs
            else "Run fewer, larger kernels: fuse or batch them, or launch them as a CUDA graph."
        ),
        does_not_apply_when="each kernel needs the one before and cannot be fused with it.",
        evidence=(
            Evidence(name="pauses", value=len(pauses), unit="count"),
            Evidence(name="pauses inside CUDA graphs", value=in_graphs, unit="count"),
            Evidence(name="median pause", value=pause, unit="ns"),
            *culprits.evidence(),
            *largest_gaps(facts, segments, "pause before"),
        ),
    )
