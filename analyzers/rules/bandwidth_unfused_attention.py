"""Attention as a product of matrices, a softmax and another product, with all scores in memory.

What it looks for:
    Softmax operators on a stream between two products of several pairs of matrices, of which the
    first writes, or the second reads, as many elements as the softmax takes. The time counts of
    all element-wise kernels between both products, forward and backward.

Why it is slow:
    The scores of every query with every key are written and read again by the mask, the softmax and
    dropout. They grow with the square of the sequence.

What to try:
    ``torch.nn.functional.scaled_dot_product_attention``, FlashAttention, or, with masks of one's
    own, FlexAttention: one kernel that keeps the scores on the multiprocessors.

When it does not apply:
    When the scores themselves are needed, or no such kernel takes the head's dimension or type.

The loss is estimated: at least half of the time between both products, at most all of it.

Shown by:
    tests/test_work_findings.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkPattern, estimate_of, work_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("kernels",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report attention that is not one kernel."""
    loss = work_losses(facts, ledger).get(WorkPattern.ATTENTION_IN_PIECES)
    if loss is None:
        return Clear()
    estimate = estimate_of(facts, ledger, loss)
    return Finding(
        title=(
            f"Attention is computed in pieces: between its two products of matrices, "
            f"{count_text(len(loss.launches), 'kernel')} of softmax, masks and copies write and "
            f"read all scores{estimate.origin}; they take {time_text(loss.spent_ns)}, "
            f"{ledger.share(loss.spent_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=(
            "Call torch.nn.functional.scaled_dot_product_attention, or FlexAttention where scores "
            "are changed: one kernel computes it without writing the scores."
        ),
        does_not_apply_when="the scores themselves are needed.",
        evidence=(
            Evidence(name="time between the products", value=loss.spent_ns, unit="ns"),
            *estimate.evidence,
        ),
        culprit="one kernel for attention",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time of what stands between both products; at least half of it, at most all",
    )
