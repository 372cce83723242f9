"""Attention in one kernel that reaches less than a third of the device's peak.

What it looks for:
    Calls of attention, 50 µs or longer and bound by arithmetic, that take more than three times as
    long as their operations at the device's peak.

Why it is slow:
    Kernels of attention are written for one generation of GPUs: FlashAttention 2 reaches 0.35 of
    the peak of an H100, FlashAttention 3 and cuDNN 0.6 to 0.75. Short sequences and small heads
    reach less.

What to try:
    Another backend for ``scaled_dot_product_attention``: cuDNN's or FlashAttention 3 on H100 and
    later, Composable Kernel or AITER in place of Triton's on AMD.

When it does not apply:
    When other backends do not take the mask, the head's dimension or the type.

The loss is estimated: at most what is left when attention reaches 60 % of the peak.

Shown by:
    tests/test_work_findings.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkPattern, estimate_of, work_losses
from analyzers.losses.parallelism import in_kernel
from analyzers.losses.products import work_text
from analyzers.recorder import recorder_of
from analyzers.words import count_text, share_text, time_text

CAUSE = Cause.COMPUTE
NEEDS = ("kernels",)

ADVICE = {
    "CUDA": (
        "Try another backend: torch.nn.attention.sdpa_kernel(SDPBackend.CUDNN_ATTENTION), or "
        "FlashAttention 3 on H100 and later."
    ),
    "HIP": (
        "Try another backend: Composable Kernel in place of Triton's, with "
        'torch.backends.cuda.preferred_rocm_fa_library("ck"), or AITER.'
    ),
}


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernels of attention far below the peak."""
    loss = work_losses(facts, ledger).get(WorkPattern.ATTENTION)
    if loss is None:
        return Clear()
    estimate = estimate_of(facts, ledger, loss)
    worst = loss.main_node("kind")
    return Finding(
        title=(
            f"{count_text(len(loss.nodes), 'call')} of attention at "
            f"{share_text(loss.roof_ns, loss.busy_ns)} of the peak took "
            f"{time_text(loss.spent_ns)}, {ledger.share(loss.spent_ns)}, most in "
            f"{work_text(loss.calls, worst)}{in_kernel(facts, loss.launches)}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=ADVICE.get(recorder_of(facts.trace).api, ADVICE["CUDA"]),
        does_not_apply_when="no other kernel takes the mask, the head's dimension or the type.",
        evidence=(
            Evidence(name="time of attention", value=loss.spent_ns, unit="ns"),
            Evidence(name="least time by its roof", value=loss.roof_ns, unit="ns"),
            *estimate.evidence,
        ),
        culprit="a better kernel for attention",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time - least time by shapes and peak / 0.6 at most, nothing at least",
    )
