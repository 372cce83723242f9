"""Casts and layout changes around matrix multiplies, convolutions and attention.

What it looks for:
    Copies of PyTorch (``contiguous``, ``clone``, ``to``, autocast) right before or behind such an
    operation, that no chain of element-wise operators takes in, where shapes were recorded; and
    kernels that cuDNN, MIOpen or cuBLAS launch inside an operator only to transpose or cast its
    operands.

Why it is slow:
    Each reads and writes a whole tensor and computes nothing.

What to try:
    For convolutions in 16 bits, ``channels_last`` for model and input: tensor cores want channels
    innermost, and the library transposes every operand that has another order. For casts, keep
    weights in the type in which they are multiplied. For copies, produce the layout that is wanted
    in the first place: ``transpose`` instead of ``contiguous``, one product for queries, keys and
    values.

When it does not apply:
    When the other layout costs the operations around it more.

The loss is estimated: at most all of these kernels' time; at least none of it, and half of it where
a library transposes inside its own operator.

Shown by:
    tests/test_work_findings.py
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.conversions import CAST, INSIDE, LAYOUT
from analyzers.losses.kernel_work import WorkPattern, estimate_of, work_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("kernels",)

ADVICE = {
    CAST: (
        "Keep weights and activations in the type in which they are multiplied, so that nothing "
        "has to cast them: load the model in bfloat16, or cast once before the loop."
    ),
    LAYOUT: (
        "Produce the layout that the next operation wants: leave out .contiguous() and .clone(), "
        "or let torch.compile write the copy together with what computes it."
    ),
    INSIDE: (
        "Use channels_last for the model and its input: "
        "model.to(memory_format=torch.channels_last). The library then need not transpose."
    ),
}


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report conversions of operands and results."""
    loss = work_losses(facts, ledger).get(WorkPattern.CONVERSIONS)
    if loss is None:
        return Clear()
    estimate = estimate_of(facts, ledger, loss)
    kinds = loss.nodes["kind"].to_numpy()
    spent = {kind: loss.time_ns(kinds == kind) for kind in (CAST, LAYOUT, INSIDE)}
    main = max(spent, key=lambda kind: spent[kind])
    parts = ", ".join(f"{time_text(ns)} in {kind}" for kind, ns in spent.items() if ns)
    return Finding(
        title=(
            f"{count_text(len(loss.launches), 'kernel')} around matrix multiplies, convolutions "
            f"and attention only convert their tensors{estimate.origin}: {parts}, "
            f"{ledger.share(loss.spent_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=ADVICE[main],
        does_not_apply_when="another layout or type costs the operations around it more.",
        evidence=(
            Evidence(name="conversions", value=int(np.size(kinds)), unit="count"),
            *estimate.evidence,
        ),
        culprit="leaving out these conversions",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time of these kernels; at least half of what a library converts inside its own "
        "operators and none of the rest, at most all",
    )
