"""Runs of kernels that take hardly longer than one that does nothing.

What it looks for:
    Kernels of at most 1.75 times the shortest of the recording (no more than 3.5 µs on GPUs of
    NVIDIA, 7.9 µs on those of AMD) that follow each other on a stream without a pause: in eager
    programs with a full queue and, most of all, in CUDA graphs of decoding steps.

Why it is slow:
    Starting a kernel, filling the multiprocessors and writing back takes these microseconds,
    whatever the kernel does. One in place of a run takes hardly longer than one of them.

What to try:
    torch.compile, which fuses what lies between matrix multiplies; fused kernels of the inference
    engine (norm with residual and quantisation, rotary embedding with the cache's update); a larger
    batch, which the same kernels do in nearly the same time.

When it does not apply:
    When each needs the whole result of the one before, as reductions of all rows do.

The loss is estimated: at most all but the longest of each run, at least every second one of runs of
three and more. Kernels whose
shapes already tell of a chain, an optimizer or conversions are left to those findings.

Shown by:
    tests/test_short_kernels.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkLoss, WorkPattern, estimate_of, work_losses
from analyzers.losses.short_kernels import SHORT, short_limit_ns
from analyzers.words import count_text, name_text, time_text

CAUSE = Cause.PARALLELISM
NEEDS = ("kernels",)
NAMED_KERNELS = 4  # of a run, in the title
_MIX = tuple(np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64))  # of SplitMix64


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report runs of kernels whose time is that of starting them."""
    loss = work_losses(facts, ledger).get(WorkPattern.SHORT_KERNELS)
    if loss is None:
        return Clear()
    runs = loss.nodes["run"].nunique()
    limit_ns = short_limit_ns(facts, ledger)
    estimate = estimate_of(facts, ledger, loss)
    return Finding(
        title=(
            f"{count_text(len(loss.nodes), 'kernel')} of at most {time_text(limit_ns)} follow each "
            f"other in {count_text(runs, 'run')}, where the shortest take "
            f"{time_text(limit_ns / SHORT)} for next to nothing: {time_text(loss.spent_ns)}, "
            f"{ledger.share(loss.spent_ns)}, most in runs such as "
            f"{_main_run(facts, loss)}{estimate.origin}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=(
            "Fuse each run into one kernel: torch.compile, or the engine's fused kernels (norm "
            "with residual, rotary embedding with the update of the cache); a larger batch costs "
            "them next to nothing."
        ),
        does_not_apply_when="each needs the whole result of the one before.",
        evidence=(
            Evidence(name="kernels less, at most", value=len(loss.nodes) - runs, unit="count"),
            Evidence(name="time of these kernels", value=loss.spent_ns, unit="ns"),
            *estimate.evidence,
        ),
        culprit="fusing runs of short kernels",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time of all but the longest kernel of each run at most; at least of every second "
        "one of runs of three and more",
    )


def main_run(run: Array, name_id: Array, ns: Array) -> slice:
    """Return the first of the runs of equal kernels that take most time together.

    Runs are told apart by the sum of what their kernels' names and places hash to, over whole
    columns: a recording has millions of them.

    Args:
        run: Number of the run of each kernel, ascending.
        name_id: Name of each kernel.
        ns: Time of each kernel.

    Returns:
        Its rows.
    """
    first = np.flatnonzero(np.diff(run, prepend=run[0] - 1))
    size = np.diff(first, append=len(run))
    place = np.arange(len(run)) - np.repeat(first, size)
    mixed = name_id.astype(np.uint64) * _MIX[0] + place.astype(np.uint64) * _MIX[1]
    for bits, factor in zip((30, 27), _MIX, strict=True):  # the finalisation of SplitMix64
        mixed = (mixed ^ (mixed >> np.uint64(bits))) * factor
    mixed ^= mixed >> np.uint64(31)
    kind = pd.factorize(np.add.reduceat(mixed, first))[0]
    most = int(np.bincount(kind, np.add.reduceat(ns, first)).argmax())
    chosen = int((kind == most).argmax())
    return slice(int(first[chosen]), int(first[chosen] + size[chosen]))


def _main_run(facts: Facts, loss: WorkLoss) -> str:
    """Return the kernels of the run that takes most time together with those like it."""
    launches = loss.calls.launches["launch"].to_numpy()
    first = loss.calls.nodes["first"].to_numpy()[loss.nodes["node"].to_numpy()]
    short = facts.trace.columns("kernels", ["short_name_id"])["short_name_id"]
    name_id = short[facts.launches["source_row"].to_numpy()[launches[first]]]
    run, lost_ns = loss.nodes["run"].to_numpy(), loss.nodes["high_ns"].to_numpy()
    names = name_id[main_run(run, name_id, lost_ns)]
    texts = facts.trace.names(names[:NAMED_KERNELS])
    kernels = [name_text(str(text)) for text in texts]
    return " → ".join(kernels + (["…"] if len(names) > NAMED_KERNELS else []))
