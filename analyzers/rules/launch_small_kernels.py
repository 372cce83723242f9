"""Kernels too short to hide the cost of launching them.

What it looks for:
    Kernels that ran for less time than the GPU had idled waiting for their launch.

Why it is slow:
    Each launch costs the host some microseconds of dispatching and calling. When kernels are
    shorter than that, the GPU finishes each and waits for the next.

What to try:
    Fuse neighbouring operations (``torch.compile``, a hand-written kernel), or give each kernel
    more work: larger batches, fewer and longer kernels.

When it does not apply:
    When the idle time comes from warm-up that a longer run would not repeat.

Shown by:
    traces/synthetic/synthetic_launch.sqlite
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger import Ledger
from analyzers.losses import LaunchPattern, largest_gaps, launch_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.LAUNCH
NEEDS = ("api_calls",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launch time in front of kernels shorter than the idle time before them."""
    segments = launch_losses(facts, ledger, LaunchPattern.SMALL_KERNEL)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    launches = pd.unique(segments["launch"].to_numpy())
    duration = float(np.median(facts.duration_ns[launches]))
    idle = float(np.median(facts.idle_before_ns[launches]))
    return Finding(
        title=(
            f"{count_text(len(launches), 'launch')} ran shorter than the GPU had idled before "
            f"them: median {time_text(duration)} of work after {time_text(idle)} of waiting, "
            f"{ledger.share(lost_ns)} in all"
        ),
        row=Row.LAUNCH,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice="Fuse neighbouring operations, or give each kernel more work.",
        does_not_apply_when="the window is dominated by warm-up; choose a later iteration then.",
        evidence=(
            Evidence(name="launches concerned", value=len(launches), unit="count"),
            Evidence(name="median duration", value=duration, unit="ns"),
            Evidence(name="median idle time before", value=idle, unit="ns"),
            *largest_gaps(facts, segments, "launch of"),
        ),
    )
