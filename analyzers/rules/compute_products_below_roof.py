"""Matrix multiplies that take more than twice the time that the device allows.

What it looks for:
    Matrix multiplies of one shape that take 10 µs or more each, and more than twice as long as
    their operations take at the device's peak, or their bytes at its bandwidth, whichever is
    longer. Time that findings about grids and about 32-bit arithmetic claim is left out.

Why it is slow:
    Dimensions whose rows do not begin at 16 bytes keep the library from its fastest kernels. Tiles
    that do not divide a matrix, and tiles that do not divide the multiprocessors, leave some of
    them idle; a long inner dimension with few tiles can be split. Where the shape tells nothing,
    the library's choice of a kernel is left.

What to try:
    Pad dimensions to multiples of 8 in 16 bits, 16 in 8 bits (a vocabulary of 50,304 rather than
    50,257); batch small products; let ``torch.compile(mode="max-autotune")`` or, on AMD,
    TunableOp (``PYTORCH_TUNABLEOP_ENABLED=1``) choose the kernel.

When it does not apply:
    When the GPU's clock was low for its power or temperature; see the recorded clocks.

The loss is estimated: at most what is left when these products reach 80 % of their roof.

Shown by:
    tests/test_work_findings.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkPattern, estimate_of, work_losses
from analyzers.losses.products import why_slow, work_text
from analyzers.recorder import recorder_of
from analyzers.words import count_text, share_text, time_text

CAUSE = Cause.COMPUTE
NEEDS = ("kernels",)

PAD = "Pad that dimension, in the model or the batch, to a multiple of 16 bytes."
TUNE = {
    "CUDA": 'Let torch.compile(mode="max-autotune") choose their kernels, or batch small products.',
    "HIP": (
        "Let TunableOp choose their kernels: run once with PYTORCH_TUNABLEOP_ENABLED=1 and "
        "PYTORCH_TUNABLEOP_TUNING=1, or batch small products."
    ),
}


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report matrix multiplies far below their roof, with what their shape tells."""
    loss = work_losses(facts, ledger).get(WorkPattern.PRODUCTS)
    if loss is None:
        return Clear()
    estimate = estimate_of(facts, ledger, loss)
    worst = loss.main_node("kind")
    why = why_slow(loss.calls, worst)
    reason = f"; {why}" if why else ""
    binds = loss.calls.nodes["is_compute"].iloc[worst]
    limit = "the peak" if binds else "the memory bandwidth"
    share = share_text(loss.roof_ns, loss.busy_ns)
    return Finding(
        title=(
            f"{count_text(len(loss.nodes), 'matrix multiply')} at {share} of the device's limit "
            f"take {time_text(loss.spent_ns)}, {ledger.share(loss.spent_ns)}: most in "
            f"{work_text(loss.calls, worst)}, at {loss.share_of_roof('kind', worst)} of "
            f"{limit}{reason}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=PAD
        if "no multiple" in why
        else TUNE.get(recorder_of(facts.trace).api, TUNE["CUDA"]),
        does_not_apply_when="the GPU's clock was low, for its power or its temperature.",
        evidence=(
            Evidence(name="time of these products", value=loss.spent_ns, unit="ns"),
            Evidence(name="least time by their roof", value=loss.roof_ns, unit="ns"),
            *estimate.evidence,
        ),
        culprit="better kernels for these matrix multiplies",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time - least time by shapes and roof / 0.8 at most, nothing at least",
    )
