"""Activations that the backward pass computes again, and what that costs.

What it looks for:
    Operators of forward passes, such as ``linear`` and ``convolution``, that are called while a
    backward function is evaluated: activation checkpointing.

Why it is slow:
    It is a trade: memory is saved, and the forward pass of what is checkpointed runs twice, up to a
    third more time for each step.

What to try:
    Checkpoint fewer layers, as many as memory asks for; or selectively, so that matrix multiplies
    and attention are kept and only cheap operations are repeated
    (``torch.utils.checkpoint.create_selective_checkpoint_contexts``).

When it does not apply:
    When all memory is in use.

The estimate is that of keeping all activations at most, none at least. It decides no verdict.

Shown by:
    tests/test_work_findings.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkPattern, estimate_of, work_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.COMPUTE
NEEDS = ("kernels",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report the price of activation checkpointing."""
    loss = work_losses(facts, ledger).get(WorkPattern.RECOMPUTED)
    if loss is None:
        return Clear()
    estimate = estimate_of(facts, ledger, loss)
    return Finding(
        title=(
            f"The backward pass computes activations of {count_text(len(loss.nodes), 'call')} "
            f"again{estimate.origin}: {time_text(loss.spent_ns)}, {ledger.share(loss.spent_ns)}, "
            "for the memory that this saves"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=(
            "Checkpoint fewer layers, or selectively: keep the results of matrix multiplies and "
            "attention, and repeat only cheap operations "
            "(torch.utils.checkpoint.create_selective_checkpoint_contexts)."
        ),
        does_not_apply_when="all of the GPU's memory is in use.",
        evidence=(
            Evidence(name="time of what is repeated", value=loss.spent_ns, unit="ns"),
            *estimate.evidence,
        ),
        culprit="keeping these activations",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time of forward operators inside backward functions at most, nothing at least",
    )
