"""Kernels in 64-bit arithmetic on a GPU that computes it a 32nd or a 64th as fast as 32-bit.

What it looks for:
    Kernels of 20 µs or more whose names say that they compute with 64-bit numbers only (``dgemm``,
    ``f64f64``, template arguments and parameters of ``double``), on GPUs of the kinds that have
    two 64-bit units for 64 or 128 of 32 bits: all but those for science (V100, A100, H100, B200).

Why it is slow:
    A few units do all of the arithmetic, and every number takes twice the bytes.

What to try:
    32-bit numbers where the precision allows it: ``torch.float32`` (NumPy arrays are 64-bit unless
    said otherwise), ``0.5f`` and ``sqrtf`` in kernels; 64 bits for sums only.

When it does not apply:
    When the result needs 64 bits: then a GPU for science computes it 30 times as fast.

The loss is estimated: at most what the ratio of both units saves, at least half of a product's
time and a quarter of other kernels'. It decides no verdict.

Shown by:
    tests/test_fp64_kernels.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_operations
from analyzers.losses.fp64_kernels import fp64_kernels
from analyzers.losses.parallelism import largest_kernels, mostly_in
from analyzers.words import count_text, time_text

CAUSE = Cause.COMPUTE
NEEDS = ("kernels",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernels in 64-bit arithmetic on GPUs that are slow at it."""
    kernels = fp64_kernels(facts, ledger)
    if kernels is None:
        return Clear()
    launches = kernels.launches
    spent_ns, product_ns = (
        int(launches["alone_ns"][chosen].sum())
        for chosen in (launches["alone_ns"] > 0, launches["is_product"])
    )
    culprits = of_operations(
        facts, ledger, *(launches[name].to_numpy() for name in ("launch", "lost_ns"))
    )
    return Finding(
        title=(
            f"{count_text(len(launches), 'kernel')} computed with 64-bit numbers for "
            f"{time_text(spent_ns)}, {ledger.share(spent_ns)}"
            f"{mostly_in(facts, ledger, launches)}; 32-bit arithmetic is {kernels.ratio} times as "
            "fast on this GPU"
        ),
        row=Row.KERNEL,
        lost_ns=kernels.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=(
            "Use 32-bit numbers where the precision allows it: .float() or dtype=torch.float32 "
            "where the tensors are made (NumPy's are 64-bit), 0.5f and sqrtf in kernels; keep 64 "
            "bits for sums only."
        ),
        does_not_apply_when=(
            "the result needs 64 bits; a V100, A100, H100 or B200 computes them at half the speed "
            "of 32."
        ),
        evidence=(
            Evidence(name="time in these kernels", value=spent_ns, unit="ns"),
            Evidence(name="of it in matrix products", value=product_ns, unit="ns"),
            Evidence(name="32-bit over 64-bit speed", value=kernels.ratio, unit="count"),
            *culprits.evidence(kernel=""),
            *largest_kernels(facts, launches),
        ),
        culprit="32-bit numbers",
        low_ns=int(launches["low_ns"].sum()),
        high_ns=int(launches["high_ns"].sum()),
        formula="time * (1 - 1 / ratio of 32-bit to 64-bit speed) at most; at least half of a "
        "product's time and a quarter of others'",
    )
