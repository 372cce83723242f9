"""Kernels that compute with 64-bit numbers on GPUs that do so a 32nd or a 64th as fast as with 32.

Their names tell: ``dgemm``, ``f64f64``, or types of ``double`` and no narrower floating-point type,
which may be those of the data where ``double`` is that of a factor. GPUs for science compute half
as many 64-bit results as 32-bit ones, and nothing is said there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.fp32_products import SHORTEST_NS, unexamined_kernels
from analyzers.losses.kernel_memory import is_notable
from analyzers.losses.parallelism import alone_ns, claimed_ns
from analyzers.work.classes import CODES, WorkClass, kernel_class_codes
from common.memo import memo

# Tensile writes types of 64 bits as ``DB``; kernels of others call a gradient of bias ``db``.
_PRODUCT = re.compile(r"(?i:(?:^|_|\b)(?:magma_)?dgemm|d884gemm|f64f64)|\bCijk_\w*_DB_")
_DOUBLE = re.compile(r"\bdouble[24]?\b|\bfp64\b|complex128")
_NARROWER = re.compile(r"(?i)\bfloat[24]?\b|half|bfloat|fp16|bf16|tf32|fp8|\bf32\b")

# Results of 32-bit over 64-bit arithmetic in a clock, by compute capability (CUDA C++ Programming
# Guide, "Arithmetic Instructions"); what is not here computes at half the speed or is not known.
_RATIOS = {
    **dict.fromkeys(((5, 0), (5, 2), (5, 3), (6, 1), (6, 2), (7, 5)), 32),
    **dict.fromkeys(((8, 6), (8, 7), (8, 9), (12, 0), (12, 1)), 64),
}
PRODUCT_LEAST, OTHERS_LEAST = 0.5, 0.25
"""Parts of the time that narrower numbers save at least: a product's bytes halve; others also read
what does not become narrower."""


@dataclass(frozen=True, eq=False)
class Fp64Kernels:
    """Kernels in 64-bit arithmetic on GPUs that are slow at it.

    Attributes:
        launches: Columns ``launch`` (row of ``Facts.launches``), ``alone_ns`` (no other kernel ran
            beside it), ``low_ns``, ``lost_ns`` (the middle), ``high_ns``, ``is_absorbed`` and
            ``is_product``.
        ratio: How many times as fast the GPU that loses most computes with 32-bit numbers.
    """

    launches: pd.DataFrame
    ratio: int

    @property
    def lost_ns(self) -> int:
        """What is claimed: the middle of the range."""
        return int(self.launches["lost_ns"].sum())


def is_fp64(kernel: str) -> bool:
    """Tell whether a kernel's name says that it computes with 64-bit numbers only."""
    if _NARROWER.search(kernel):
        return False
    return _PRODUCT.search(kernel) is not None or _DOUBLE.search(kernel) is not None


def fp64_ratio(major: int, minor: int) -> int:
    """Return how many times as fast 32-bit arithmetic is on a GPU that is slow at 64; else 1."""
    return _RATIOS.get((major, minor), 1)


@memo()
def fp64_kernels(facts: Facts, ledger: Ledger) -> Fp64Kernels | None:
    """Return the kernels of the window that need not be so slow; None without notable loss."""
    columns = ("compute_major", "compute_minor")
    capabilities = zip(*(facts.devices[name] for name in columns), strict=True)
    ratios = np.array([fp64_ratio(int(a), int(b)) for a, b in capabilities], dtype=np.int64)
    if (ratios == 1).all():
        return None
    rows = unexamined_kernels(facts, ledger)
    codes, ids = pd.factorize(facts.launches["name_id"].to_numpy()[rows])
    names = facts.trace.names(ids) if len(ids) else ids
    chosen = np.array([is_fp64(str(n)) for n in names], dtype=bool)[codes]
    of_product = kernel_class_codes(names) == CODES[WorkClass.MATMUL]
    ratio = ratios[facts.launches["device"].to_numpy()[rows]]
    chosen &= (facts.duration_ns[rows] >= SHORTEST_NS) & (ratio > 1)
    rows, ratio, is_product = rows[chosen], ratio[chosen], of_product[codes][chosen]
    if not len(rows):
        return None
    launches = _with_range(facts, ledger, rows, ratio, is_product)
    kernels = Fp64Kernels(launches, int(ratio[int(launches["high_ns"].to_numpy().argmax())]))
    return kernels if is_notable(ledger, kernels.lost_ns) else None


def _with_range(
    facts: Facts, ledger: Ledger, rows: Array, ratio: Array, is_product: Array
) -> pd.DataFrame:
    alone = alone_ns(facts, ledger)[rows] - claimed_ns(facts, ledger)[rows]
    low = (alone * np.where(is_product, PRODUCT_LEAST, OTHERS_LEAST)).astype(np.int64)
    high = (alone * (1 - 1 / ratio)).astype(np.int64)
    return pd.DataFrame(
        {
            "launch": rows,
            "alone_ns": alone,
            "low_ns": low,
            "lost_ns": (low + high) // 2,
            "high_ns": high,
            "is_absorbed": np.zeros(len(rows), dtype=bool),
            "is_product": is_product,
        }
    )


SHORTENINGS = {"compute.double_precision": (fp64_kernels, "computing with 32-bit numbers")}
"""The loss of the rule, and what following its advice is called."""
