"""Matrix products and convolutions in 32-bit arithmetic that leave the tensor cores idle.

What it looks for:
    Kernels of cuBLAS, CUTLASS, MAGMA and cuDNN whose names say that they multiply 32-bit numbers on
    ordinary units (``sgemm``, ``simt``, ``f32f32_f32f32``), of 20 µs or more, for a tenth of the
    time or more, on NVIDIA GPUs of compute capability 7.0 and later.

Why it is slow:
    Tensor cores multiply small matrices at once: 2 to 8 times as much per clock, in TF32 or 16-bit
    types with 32-bit sums.

What to try:
    ``torch.set_float32_matmul_precision("high")`` on data-centre GPUs from A100 on;
    ``torch.autocast`` with bfloat16 on others from compute capability 8.0 on, with float16 and a
    ``GradScaler`` on older ones.

When it does not apply:
    When the result needs all 24 bits of a 32-bit number's fraction; TF32 keeps 11, bfloat16 8.

The loss is estimated: half of the time of these kernels, at most what the ratio of both units
saves, and nothing where they wait for memory. It decides no verdict.

Shown by:
    tests/test_fp32_products.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.fp32_products import fp32_products, tensor_ratio
from analyzers.losses.parallelism import largest_kernels, mostly_in
from analyzers.recorder import recorder_of
from analyzers.words import count_text, time_text

CAUSE = Cause.COMPUTE
NEEDS = ("kernels",)
MATTERS = 0.1  # of the time in use; who multiplies less has other troubles

TF32 = (
    'Let products use TF32: torch.set_float32_matmul_precision("high") and '
    "torch.backends.cudnn.allow_tf32 = True in PyTorch, CUBLAS_TF32_TENSOR_OP_MATH in cuBLAS; or "
    "torch.autocast with bfloat16."
)
BFLOAT16 = (
    'Compute in 16 bits: torch.autocast("cuda", dtype=torch.bfloat16), or CUDA_R_16BF in cuBLAS. '
    "TF32 is hardly faster than 32-bit arithmetic on most GPUs of this kind."
)
FLOAT16 = (
    'Compute in 16 bits: torch.autocast("cuda", dtype=torch.float16) with a GradScaler, or '
    "CUDA_R_16F in cuBLAS; this GPU's tensor cores know neither TF32 nor bfloat16."
)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report products in 32-bit arithmetic on GPUs with tensor cores."""
    if recorder_of(facts.trace).api != "CUDA":
        return Clear()
    products = fp32_products(facts, ledger)
    if products is None:
        return Clear()
    launches = products.launches
    spent_ns, lost_ns = int(launches["alone_ns"].sum()), int(launches["lost_ns"].sum())
    if not ledger.is_notable(lost_ns) or spent_ns < MATTERS * ledger.in_use_ns:
        return Clear()
    ratio = tensor_ratio(*products.capability)
    return Finding(
        title=(
            f"{count_text(len(launches), 'kernel')} of matrix products and convolutions computed "
            "with 32-bit numbers and without "
            f"tensor cores for {time_text(spent_ns)}, {ledger.share(spent_ns)}"
            f"{mostly_in(facts, ledger, launches)}; tensor cores multiply up to {ratio} times as "
            "fast on this GPU"
        ),
        row=Row.KERNEL,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice=_advice(*products.capability),
        does_not_apply_when="the result needs more than 8 to 11 bits of each number's fraction.",
        evidence=(
            Evidence(name="time in these kernels", value=spent_ns, unit="ns"),
            Evidence(name="tensor cores over 32-bit units, at most", value=ratio, unit="count"),
            *largest_kernels(facts, launches),
        ),
        low_ns=0,
        high_ns=int(launches["high_ns"].sum()),
        formula="half of the kernels' time; nothing where they wait for memory, and at most "
        "time * (1 - 1 / ratio of tensor cores to 32-bit units)",
    )


def _advice(major: int, minor: int) -> str:
    if major < 8:
        return FLOAT16
    return TF32 if (major, minor) == (8, 0) or major in (9, 10) else BFLOAT16
