"""Casts and layout changes around matrix multiplies, convolutions and attention."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.intervals import Array
from analyzers.losses.busy_calls import BusyCalls
from analyzers.work.classes import WorkClass
from analyzers.work.inputs import input_list

_SERVED = (WorkClass.MATMUL, WorkClass.CONVOLUTION, WorkClass.ATTENTION)
_COPIES = ("aten::copy_", "aten::clone", "aten::contiguous", "aten::_to_copy")
MOST_IN_A_ROW = 3  # copies in front of one operation: of queries, keys and values
CAST, LAYOUT, INSIDE = "casts", "layout changes", "layout changes of the library"
"""Kinds of conversions: of types, of layouts, and those that a library adds to its own kernels."""


def conversions(calls: BusyCalls) -> pd.DataFrame:
    """Return what conversions right before or behind such an operation take.

    Returns:
        Columns of ``analyzers.losses.kernel_work.WorkLoss.nodes``; and ``kind`` (``CAST``,
        ``LAYOUT`` or ``INSIDE``).
    """
    nodes = calls.nodes
    served = calls.of_class(*_SERVED) & ~nodes["is_conversion"].to_numpy()
    keys = calls.work.calls.keys
    copies = calls.of_keys(keys["operator"].isin(_COPIES) & (keys["shapes"] != ""))
    copies &= (nodes["free_ns"] > 0).to_numpy()
    alike = calls.stream[1:] == calls.stream[:-1]
    beside = served.copy()
    for _ in range(MOST_IN_A_ROW):
        near = np.zeros(len(nodes), dtype=bool)
        near[:-1] |= beside[1:] & alike
        near[1:] |= beside[:-1] & alike
        beside = served | (near & copies)
    inside = nodes["is_conversion"].to_numpy() & (nodes["free_ns"] > 0).to_numpy()
    rows = np.flatnonzero((beside & copies & ~served) | inside)
    free = nodes["free_ns"].to_numpy()[rows]
    kinds = _kinds_of_keys(keys)[nodes["key"].to_numpy()[rows]]
    kinds = np.where(inside[rows], INSIDE, kinds)
    return pd.DataFrame(
        {
            "node": rows,
            "low_ns": np.where(kinds == INSIDE, free // 2, 0).astype(np.int64),
            "high_ns": free.astype(np.int64),
            "kind": kinds,
            "is_absorbed": np.ones(len(rows), dtype=bool),
        }
    )


def _kinds_of_keys(keys: pd.DataFrame) -> Array:
    """Return whether calls change the type or the layout, from the types of their inputs.

    There is one place more than there are keys: of calls about which nothing is known.
    """
    codes, texts = pd.factorize(np.append(keys["types"].to_numpy(object), ""))
    of_text = []
    for text in texts:
        types = [t for t in input_list(str(text)) if isinstance(t, str) and t not in ("", "Scalar")]
        of_text.append(CAST if len(set(types[:2])) > 1 else LAYOUT)
    return np.array(of_text, dtype=object)[codes]
