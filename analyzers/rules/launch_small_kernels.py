"""Kernels too short to hide the cost of launching them.

What it looks for:
    Kernels of less than 100 µs that ran for less time than the GPU had idled waiting for their
    launch. Nodes of CUDA graphs are not launched one by one, and are not counted.

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

from analyzers.facts.facts import Facts
from analyzers.facts.surroundings import is_pytorch
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_launches
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.timeline import LaunchPattern, launch_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.LAUNCH
NEEDS = ("api_calls",)
IN_PYTORCH = "; torch.compile does the first"


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launch time in front of kernels shorter than the idle time before them."""
    segments = launch_losses(facts, ledger, LaunchPattern.SMALL_KERNEL)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    launches = segments.drop_duplicates("launch")
    duration = float(np.median(facts.duration_ns[launches["launch"]]))
    idle = float(np.median(launches["waited_ns"]))
    culprits = of_launches(facts, ledger, segments)
    return Finding(
        title=(
            f"{count_text(len(launches), 'launch')} ran for less time than the {gpus(ledger)} "
            "had been idle "
            f"before {'it' if len(launches) == 1 else 'them'}: median {time_text(duration)} of "
            f"work after {time_text(idle)} of waiting for the launch, "
            f"{ledger.share(lost_ns)}{culprits.words()}"
        ),
        row=Row.LAUNCH,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=(
            "Fuse neighbouring operations, give each kernel more work, or launch what repeats as a "
            f"CUDA graph{IN_PYTORCH if is_pytorch(facts) else ''}."
        ),
        does_not_apply_when="the window is dominated by warm-up; choose a later iteration then.",
        culprit=culprits.origin,
        evidence=(
            Evidence(name="launches affected", value=len(launches), unit="count"),
            Evidence(name="median duration", value=duration, unit="ns"),
            Evidence(name="median idle time for the launch", value=idle, unit="ns"),
            *culprits.evidence(),
            *largest_gaps(facts, segments, "launch of"),
        ),
    )
