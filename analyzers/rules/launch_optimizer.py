"""An optimizer that updates one tensor after the other, with several launches for each.

What it looks for:
    Idle time in which the GPU waited for launches that PyTorch made inside ``Optimizer.step``,
    where one step makes fifty or more.

Why it is slow:
    A model of a hundred tensors takes hundreds of launches for its update, each of which does
    next to nothing on the GPU.

What to try:
    ``foreach=True`` updates many tensors in one launch, ``fused=True`` all arithmetic of the
    update as well; both are arguments of the optimizer.

When it does not apply:
    When the optimizer is not one of ``torch.optim`` and has no such form; ``torch.compile`` of its
    step, or a CUDA graph of it, helps then.

Shown by:
    tests/test_torch_habits.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_launches
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.optimizer import UPDATE, optimizer_launches
from analyzers.losses.timeline import LaunchPattern, launch_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.LAUNCH
NEEDS = ("api_calls", "ranges")

# torch.optim of PyTorch 2.3 and later.
WITH_FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
WITH_FOREACH = ("ASGD", "Adadelta", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launch time in front of what an optimizer's step launched."""
    segments = launch_losses(facts, ledger, LaunchPattern.OPTIMIZER)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    update = optimizer_launches(facts, ledger, UPDATE)
    culprits = of_launches(facts, ledger, segments)
    return Finding(
        title=(
            f"The optimizer {update.name} made {update.each_step:,} launches a step, "
            f"{update.count:,} in {count_text(update.steps, 'step')}: the {gpus(ledger)} idled "
            f"before them for {time_text(lost_ns)}, {ledger.share(lost_ns)}"
        ),
        row=Row.LAUNCH,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=_advice(update.name),
        does_not_apply_when="the optimizer has no form that updates many tensors at once.",
        culprit=f"mostly in the optimizer {update.name}",
        evidence=(
            Evidence(name="launches in one step", value=update.each_step, unit="count"),
            Evidence(name="steps", value=update.steps, unit="count"),
            Evidence(name="time of these launches on the GPU", value=update.device_ns, unit="ns"),
            *culprits.evidence(),
            *largest_gaps(facts, segments, "launch of"),
        ),
    )


def _advice(optimizer: str) -> str:
    if optimizer in WITH_FUSED:
        return (
            f"Construct it as torch.optim.{optimizer}(…, fused=True), or foreach=True where "
            "that is refused: one launch then updates many tensors."
        )
    if optimizer in WITH_FOREACH:
        return (
            f"Construct it as torch.optim.{optimizer}(…, foreach=True): one launch then updates "
            "many tensors."
        )
    return (
        "Update many tensors with one launch: torch._foreach operations or a fused "
        "optimizer, as foreach=True and fused=True do in torch.optim, or torch.compile of the step."
    )
