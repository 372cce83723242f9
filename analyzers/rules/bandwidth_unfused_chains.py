"""Element-wise operations that each read and write device memory, where one kernel could do all.

What it looks for:
    Element-wise operators, norms, softmax, reductions, casts and copies that follow each other on
    a stream, each reading what the one before it wrote: as many elements of the same type. Shapes
    must have been recorded.

Why it is slow:
    Such an operator computes next to nothing: its time is that of reading its inputs and writing
    its result. One kernel for the whole chain keeps the intermediate results in registers.

What to try:
    ``torch.compile`` of the module, which generates one kernel for such a chain; a fused operator
    where there is one (``torch.nn.functional.rms_norm``, Liger, Apex); for a GPU program of one's
    own, one kernel for the chain.

When it does not apply:
    When the operations work on different tensors that only have as many elements. Where an
    intermediate result is used again, as by a backward pass, it still has to be written: the lower
    end of the range assumes that of all of them.

The loss is estimated from shapes, at the rate at which these kernels move bytes: at least, what
lies between is not read again; at most, it is not written either.

Shown by:
    tests/test_unfused_chains.py
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkLoss, WorkPattern, estimate_of, work_losses
from analyzers.words import TIMES, count_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("kernels",)
NAMED_OPERATORS = 6  # of a chain, in the title; what is longer is named by its ends


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report chains of memory-bound operators that a fused kernel would not write out."""
    loss = work_losses(facts, ledger).get(WorkPattern.CHAINS)
    if loss is None:
        return Clear()
    low, high = loss.range_ns
    moved = float(loss.nodes["spared_bytes"].sum())
    launches = loss.launches
    estimate = estimate_of(facts, ledger, loss)
    return Finding(
        title=(
            f"{count_text(len(launches), 'kernel')} of element-wise operations, norms and copies "
            f"pass up to {size_text(moved)} of intermediate results through device memory, most in "
            f"chains such as {_main_chain(loss)}{estimate.origin}; they take "
            f"{time_text(loss.spent_ns)}, {ledger.share(loss.spent_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=(
            "Let torch.compile fuse them: compile the module that calls them, or use a fused "
            "operator in its place, such as torch.nn.functional.rms_norm."
        ),
        does_not_apply_when=(
            "the operations work on different tensors of the same size, or most intermediate "
            "results are used again."
        ),
        evidence=(
            Evidence(name="kernels less", value=int(launches["is_absorbed"].sum()), unit="count"),
            Evidence(name="intermediate results, at most", value=moved, unit="bytes"),
            Evidence(name="time of these kernels", value=loss.spent_ns, unit="ns"),
            *estimate.evidence,
        ),
        culprit="fusing such chains of kernels",
        low_ns=low,
        high_ns=high,
        formula=f"time {TIMES} bytes that a fused kernel need not move / bytes moved now; at least "
        "what lies between two kernels is not read again, at most it is not written either",
    )


def _main_chain(loss: WorkLoss) -> str:
    """Return the chain that loses most, as ``pow → mean → mul``."""
    weight = (loss.nodes["low_ns"] + loss.nodes["high_ns"]).groupby(loss.nodes["chain"]).sum()
    rows = loss.nodes["node"][(loss.nodes["chain"] == int(str(weight.idxmax()))).to_numpy()]
    is_absorbed = loss.nodes["is_absorbed"].to_numpy()[rows.index]
    end = int(np.append(np.flatnonzero(~is_absorbed)[1:], len(rows))[0])
    names = [str(n).rpartition("::")[2] for n in loss.calls.operators[rows.to_numpy()[:end]]]
    if len(names) > NAMED_OPERATORS:
        names = [*names[: NAMED_OPERATORS - 2], "…", names[-1]]
    return " → ".join(names)
