"""``zero_grad`` fills each gradient with zeros, one launch a tensor.

What it looks for:
    Idle time in which the GPU waited for launches that PyTorch made inside
    ``Optimizer.zero_grad``, where one execution makes ten or more.

Why it is slow:
    Every fill takes a microsecond or two on the GPU and five to ten times as long to launch. The
    backward pass then adds to zeros that it could have overwritten.

What to try:
    ``optimizer.zero_grad(set_to_none=True)``, which launches nothing; it is the default since
    PyTorch 2.0, so that ``set_to_none=False`` or an own loop of ``grad.zero_()`` stands somewhere.

When it does not apply:
    When code relies on gradients being zeros instead of None.

Shown by:
    tests/test_torch_habits.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.optimizer import ZERO_GRAD, optimizer_launches
from analyzers.losses.timeline import LaunchPattern, launch_losses
from analyzers.words import count_text, time_text

CAUSE = Cause.LAUNCH
NEEDS = ("api_calls", "ranges")


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launch time in front of the fills of ``zero_grad``."""
    segments = launch_losses(facts, ledger, LaunchPattern.ZERO_GRAD)
    lost_ns = int(segments["ns"].sum())
    if not ledger.is_notable(lost_ns):
        return Clear()
    fills = optimizer_launches(facts, ledger, ZERO_GRAD)
    return Finding(
        title=(
            f"zero_grad of {fills.name} filled {fills.each_step:,} tensors a step, one launch "
            f"each: {fills.count:,} launches in {count_text(fills.steps, 'step')}, before which "
            f"the {gpus(ledger)} idled for {time_text(lost_ns)}, {ledger.share(lost_ns)}"
        ),
        row=Row.LAUNCH,
        lost_ns=lost_ns,
        confidence=Confidence.MEASURED,
        advice=(
            "Call optimizer.zero_grad(set_to_none=True): it launches nothing, and the backward "
            f"pass writes gradients instead of adding to zeros. {time_text(fills.device_ns)} of "
            "kernels go with it."
        ),
        does_not_apply_when="code relies on gradients being zeros instead of None.",
        culprit=f"mostly in zero_grad of {fills.name}",
        evidence=(
            Evidence(name="launches in one zero_grad", value=fills.each_step, unit="count"),
            Evidence(name="executions of zero_grad", value=fills.steps, unit="count"),
            Evidence(name="time of the fills on the GPU", value=fills.device_ns, unit="ns"),
            *largest_gaps(facts, segments, "launch of"),
        ),
    )
