"""The GPU waits for the next batch of a PyTorch DataLoader.

What it looks for:
    Idle time in which the submitting thread was inside the range that PyTorch puts around fetching
    a batch: ``enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__`` when the training
    process loads batches itself, ``_MultiProcessingDataLoaderIter`` when workers do.

Why it is slow:
    Without workers every batch is read, decoded and augmented between two steps, while the GPU has
    nothing to do. With workers, a wait means that all of them together are slower than the GPU.

What to try:
    Without workers: ``DataLoader(num_workers=…, pin_memory=True)`` and copies with
    ``non_blocking=True``. With workers: more of them, a larger ``prefetch_factor``,
    ``persistent_workers=True``, cheaper transforms.

When it does not apply:
    When the window holds only the first batches of an epoch, for which workers are started.

Shown by:
    tests/test_torch_habits.py
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.intervals import covered, union
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.host_activity import host_activity, mostly
from analyzers.losses.host_losses import (
    SINGLE_PROCESS,
    HostPattern,
    fetches,
    host_losses,
)
from analyzers.words import count_text, time_text

CAUSE = Cause.HOST
NEEDS = ("api_calls", "ranges")
NAMED = 3  # functions that are named
ADVICE_WITHOUT_WORKERS = (
    "Load batches in worker processes and ahead of time: DataLoader(num_workers=4, "
    "pin_memory=True, persistent_workers=True), with as many workers as it takes, and copy them "
    "with .to(device, non_blocking=True). num_workers is 0 here."
)
ADVICE_WITH_WORKERS = (
    "The workers are slower than the GPU: raise num_workers as far as there are cores, raise "
    "prefetch_factor, set persistent_workers=True so that they are not started again for each "
    "epoch, and make the transforms of a batch cheaper."
)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report idle time in which the submitting thread fetched a batch."""
    segments = host_losses(facts, ledger, HostPattern.DATA_LOADER)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    every = fetches(facts)
    idle = union(segments["start_ns"].to_numpy(), segments["end_ns"].to_numpy())
    inside = covered(every.spans, idle)
    alone = every.of_names(SINGLE_PROCESS)
    in_process = 2 * int(covered(alone.spans, idle).sum()) >= int(inside.sum())
    fetched = every.where(inside > 0).spans
    lengths = fetched.end - fetched.start
    activity = host_activity(facts, ledger, segments)
    what = (
        "the training process loaded its batches itself (DataLoader with num_workers=0)"
        if in_process
        else "the training process waited for the workers of its DataLoader"
    )
    line = mostly([*activity.lines[:1], *activity.functions[:1]], lost_ns, "in")
    return Finding(
        title=(
            f"The {gpus(ledger)} idled for {time_text(lost_ns)}, {ledger.share(lost_ns)}, while "
            f"{what}: {count_text(len(lengths), 'batch')} at {time_text(float(np.mean(lengths)))} "
            f"each{', ' if line else ''}{line}"
        ),
        row=Row.HOST,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=ADVICE_WITHOUT_WORKERS if in_process else ADVICE_WITH_WORKERS,
        culprit=f"mostly while {what} ({time_text(lost_ns)})",
        does_not_apply_when="the window holds only the first batches, for which workers start.",
        evidence=(
            Evidence(name="batches fetched", value=len(lengths), unit="count"),
            Evidence(name="longest fetch", value=int(lengths.max()), unit="ns"),
            *(Evidence(name=f"in {n}", value=ns, unit="ns") for n, ns in activity.calls[:NAMED]),
            *(Evidence(name=f"in {n}", value=ns, unit="ns") for n, ns in activity.lines[:NAMED]),
            *largest_gaps(facts, segments, "idle before"),
        ),
    )
