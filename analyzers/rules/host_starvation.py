"""The GPU has nothing to do because the host is busy elsewhere.

What it looks for:
    Idle time in which the submitting thread was outside CUDA for longer than dispatching takes:
    reading input, holding or waiting for locks, collecting garbage, running other code.
    Operating-system calls, ranges, operators, lines of Python and sampled functions that cover
    the time are named. Time before a
    GPU's first and after its last operation is not counted.

Why it is slow:
    No work is submitted meanwhile, so the GPU runs dry.

What to try:
    Prepare input in other processes and ahead of time (``num_workers``, prefetching); move
    logging, checkpointing and checks off the submitting thread.

When it does not apply:
    When the idle time lies between phases of the program that you do not want to speed up.

Shown by:
    traces/synthetic/synthetic_host.sqlite
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import Named
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.host_activity import host_activity, mostly
from analyzers.losses.host_losses import HostPattern, host_losses
from analyzers.words import count_text, share_text, time_text

CAUSE = Cause.HOST
NEEDS = ("api_calls",)
NAMED = 3  # operating-system calls and ranges that are named
MIN_TITLE_SHARE = 0.10  # of the loss; what covers less of it does not explain it


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report idle time in which the host did something else."""
    segments = host_losses(facts, ledger, HostPattern.OTHER)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    activity = host_activity(facts, ledger, segments)
    gaps = int(segments["launch"].nunique())
    return Finding(
        title=(
            f"The {gpus(ledger)} idled for {time_text(lost_ns)}, {ledger.share(lost_ns)}, in "
            f"{count_text(gaps, 'place')} where the host was outside CUDA"
            f"{_during(activity.largest, lost_ns)}"
        ),
        row=Row.HOST,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=_advice(activity.of_program, lost_ns),
        culprit=mostly(activity.largest, lost_ns),
        does_not_apply_when="the idle time lies between phases that you do not want to speed up.",
        evidence=(
            *_in(activity.calls),
            *_in(activity.ranges, "range "),
            *_in(activity.operators),
            *_in(activity.lines),
            *_in(activity.functions),
            *largest_gaps(facts, segments, "idle before"),
        ),
    )


def _advice(named: Named, lost_ns: int) -> str:
    """Say what to move off the thread, by name if something covers half of the loss."""
    names = [name for name, ns in named if 2 * ns >= lost_ns]
    if not names:
        return (
            "Keep the submitting thread free: do that work elsewhere or ahead of time, for example "
            "by running the input pipeline in worker processes."
        )
    return (
        f"Keep the submitting thread free: look at what it does in {names[-1]} between launches, "
        "and do that in another thread or process, ahead of time, or less often."
    )


def _in(named: Named, kind: str = "") -> tuple[Evidence, ...]:
    return tuple(
        Evidence(name=f"in {kind}{name}", value=float(ns), unit="ns") for name, ns in named[:NAMED]
    )


def _during(named: Named, lost_ns: int) -> str:
    """Say what covered the lost time, as far as it covered enough to matter."""
    most = mostly(named, lost_ns)
    partly = [
        f"{share_text(ns, lost_ns)} of it during {n} ({time_text(ns)})"
        for n, ns in named
        if ns >= MIN_TITLE_SHARE * lost_ns and not mostly([(n, ns)], lost_ns)
    ]
    parts = [most, *partly] if most else partly
    return "".join(f", {part}" for part in parts)
