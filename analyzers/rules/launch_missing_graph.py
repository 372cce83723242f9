"""The same sequence of short kernels, launched one by one every time.

What it looks for:
    Kernels shorter than the idle time in which the GPU waited for their launch, in sequences of at
    least eight kernel names that come back three times or more. What is a CUDA graph already is
    not counted.

Why it is slow:
    The host pays for dispatch and launch of each kernel in each repetition, although nothing
    about the sequence changes.

What to try:
    Capture the sequence once as a CUDA graph and launch it as one
    (``torch.cuda.graph``, ``torch.compile(mode="reduce-overhead")``).

When it does not apply:
    When shapes, pointers or control flow differ between repetitions in ways a graph cannot
    update, or when a synchronisation sits inside the sequence.

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
IN_PYTORCH = ', with torch.compile(mode="reduce-overhead") or torch.cuda.graph'


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launch time in front of short kernels whose sequence repeats."""
    segments = launch_losses(facts, ledger, LaunchPattern.REPEATED_SEQUENCE)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    launches = segments.drop_duplicates("launch")
    period = int(np.median(launches["period"]))
    idle = float(np.median(launches["waited_ns"]))
    belong = "belongs" if len(launches) == 1 else "belong"
    culprits = of_launches(facts, ledger, segments)
    return Finding(
        title=(
            f"{count_text(len(launches), 'launch')} {belong} to a sequence of about {period:,} "
            f"kernels that repeats, each launched on its own while the {gpus(ledger)} idled for "
            f"{time_text(idle)} (median): {ledger.share(lost_ns)}{culprits.words()}"
        ),
        row=Row.LAUNCH,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=(
            "Capture the sequence as a CUDA graph and launch it as one"
            f"{IN_PYTORCH if is_pytorch(facts) else ''}."
        ),
        does_not_apply_when=(
            "shapes or control flow change between repetitions, or a synchronisation sits inside."
        ),
        culprit=culprits.origin,
        evidence=(
            Evidence(name="launches affected", value=len(launches), unit="count"),
            Evidence(name="kernels in one repetition", value=period, unit="count"),
            Evidence(name="median idle time for the launch", value=idle, unit="ns"),
            *culprits.evidence(),
            *largest_gaps(facts, segments, "launch of"),
        ),
    )
