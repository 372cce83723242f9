"""Matrix products in 32-bit arithmetic on GPUs whose tensor cores stay idle, known by their names.

Libraries put arithmetic into the names of their kernels: ``sgemm``, ``simt`` and ``f32f32_f32f32``
multiply on ordinary units, ``tf32``, ``s1688``, ``tensorop`` and 16-bit types on tensor cores.
Other names say nothing, and nothing is said about them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import KERNEL, Facts
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.parallelism import alone_ns, claimed_ns
from common.memo import memo

# cuBLAS and CUTLASS, MAGMA, cuDNN from version 7 on.
_SIMT = re.compile(
    r"\b(?:(?:maxwell|pascal|volta|turing|ampere|hopper)_)?sgemm_(?:\d|largek)"
    r"|_simt_sgemm|magma_sgemm|(?:volta|turing|ampere|maxwell)_scudnn_"
    r"|xmma_\w*gemm\w*_f32f32_f32f32_f32"
    r"|(?:implicit|explicit)_convolve_sgemm<float"
    r"|\b(?:dgrad_engine|wgrad_alg0_engine|dgrad2d_alg1_1|wgrad_alg1_nd_float_engine)<float"
)
_TENSOR = re.compile(r"tf32|fp16|bf16|f16|half|tensorop|[hs](?:884|1688|16816)", re.IGNORECASE)

SHORTEST_NS = 20_000  # a shorter product waits for memory and its launch rather than multiplies
TENSOR_CORES_FROM = 7  # compute capability, before the point
ESTIMATED_SHARE = 0.5  # of the time; what real programs get from tensor cores is twice and more

# How many times as much tensor cores multiply per clock as the 32-bit units, in the type that is
# advised, without sparsity (NVIDIA's architecture white papers: V100 8, T4 4 with 32-bit sums,
# A100 8, GA102 and AD102 2, H100 7, B200 14; the lowest of a family).
_RATIOS = {(7, 0): 8, (7, 5): 4, (8, 0): 8}
_RATIOS_BY_MAJOR = {7: 4, 8: 2, 9: 7, 10: 8, 12: 2}
SMALLEST_RATIO = 2


@dataclass(frozen=True, eq=False)
class Fp32Products:
    """Products on ordinary units in a window.

    Attributes:
        launches: Columns ``launch`` (row in ``Facts.launches``), ``alone_ns`` (no other kernel ran
            beside it), ``lost_ns`` (half of it) and ``high_ns`` (all that the faster units save).
        capability: Of the GPU that loses most, before and after the point.
    """

    launches: pd.DataFrame
    capability: tuple[int, int]


def is_fp32_product(kernel: str) -> bool:
    """Tell whether a kernel multiplies matrices of 32-bit numbers without tensor cores."""
    return _SIMT.search(kernel) is not None and _TENSOR.search(kernel) is None


def tensor_ratio(major: int, minor: int) -> int:
    """Return how many times as fast a GPU's tensor cores multiply at most; 1 without any."""
    if major < TENSOR_CORES_FROM:
        return 1
    return _RATIOS.get((major, minor), _RATIOS_BY_MAJOR.get(major, SMALLEST_RATIO))


@memo()
def fp32_products(facts: Facts, ledger: Ledger) -> Fp32Products | None:
    """Return the products of the window that could run on tensor cores; None without any.

    Launches that counters were joined to are left to the rule that reads them, and so is time
    that findings about parallelism claim.
    """
    rows = unexamined_kernels(facts, ledger)
    codes, ids = pd.factorize(facts.launches["name_id"].to_numpy()[rows])
    slow = np.array([is_fp32_product(str(n)) for n in facts.trace.names(ids)], dtype=bool)
    ratio = _ratios(facts)[facts.launches["device"].to_numpy()[rows]]
    chosen = slow[codes] & (facts.duration_ns[rows] >= SHORTEST_NS) & (ratio > 1)
    rows, ratio = rows[chosen], ratio[chosen]
    if not len(rows):
        return None
    alone = alone_ns(facts, ledger)[rows] - claimed_ns(facts, ledger)[rows]
    launches = pd.DataFrame(
        {
            "launch": rows,
            "alone_ns": alone,
            "lost_ns": (alone * ESTIMATED_SHARE).astype(np.int64),
            "high_ns": (alone * (1 - 1 / ratio)).astype(np.int64),
        }
    )
    device = facts.launches["device"].to_numpy()[rows]
    most = int(np.bincount(device, alone).argmax())
    of = facts.devices.iloc[most]
    return Fp32Products(launches, (int(of["compute_major"]), int(of["compute_minor"])))


def unexamined_kernels(facts: Facts, ledger: Ledger) -> Array:
    """Return the kernel launches of the window that no counters tell about."""
    rows = facts.inside(*ledger.window.span)
    kernels: Array = rows[facts.launches["kind"].to_numpy()[rows] == KERNEL]
    if ledger.examined is not None:
        kernels = kernels[ledger.examined.joined.row[kernels] < 0]
    return kernels


def _ratios(facts: Facts) -> Array:
    """Return ``tensor_ratio`` of each device."""
    capabilities = zip(facts.devices["compute_major"], facts.devices["compute_minor"], strict=True)
    return np.array([tensor_ratio(int(a), int(b)) for a, b in capabilities], dtype=np.int64)
