"""An optimizer that goes over its tensors once for each operation of its update.

What it looks for:
    Kernels inside ``Optimizer.step`` of ``torch.optim``'s Adam, AdamW or SGD that are element-wise
    or of the ``_foreach_`` kind, and not fused.

Why it is slow:
    The update of Adam reads and writes whole tensors 18 times or more in its ``foreach`` form, one
    operation after the other. Done in one kernel, 7 times are enough: parameter, gradient and two
    moments are read, all but the gradient are written.

What to try:
    ``fused=True``, an argument of these optimizers.

When it does not apply:
    When parameters are of a type or on a device for which there is no fused form.

The loss is estimated: time × (1 - passes of the fused update / passes now), which the operations
tell; at least when sums and products are with numbers, at most when they are of two tensors.

Shown by:
    tests/test_work_findings.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkPattern, estimate_of, work_losses
from analyzers.losses.optimizer import UPDATE, optimizer_launches
from analyzers.words import TIMES, count_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("kernels", "ranges")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report updates of optimizers that read and write their tensors for each operation."""
    loss = work_losses(facts, ledger).get(WorkPattern.OPTIMIZER)
    if loss is None:
        return Clear()
    update = optimizer_launches(facts, ledger, UPDATE)
    estimate = estimate_of(facts, ledger, loss)
    return Finding(
        title=(
            f"The optimizer {update.name} reads and writes its tensors anew for each operation of "
            f"its update: {count_text(len(loss.launches), 'kernel')} in "
            f"{count_text(update.steps, 'step')} take {time_text(loss.spent_ns)}, "
            f"{ledger.share(loss.spent_ns)}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=f"Construct it as torch.optim.{update.name}(…, fused=True).",
        does_not_apply_when="there is no fused form for the type or device of the parameters.",
        evidence=(
            Evidence(name="time of the update", value=loss.spent_ns, unit="ns"),
            *estimate.evidence,
        ),
        culprit="fusing the update",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula=f"time {TIMES} (1 - passes over the tensors that a fused update makes / "
        "passes that its operations make)",
    )
