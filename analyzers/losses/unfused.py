"""What calls lose that one kernel could carry out together: chains, and attention in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyzers.intervals import Array
from analyzers.losses.busy_calls import BusyCalls
from analyzers.losses.optimizer import UPDATE, optimizer_launches
from analyzers.losses.products import product_shape
from analyzers.work.chains import FUSIBLE, fusible_chains
from analyzers.work.classes import WorkClass
from analyzers.work.inputs import input_list

_AFTER = ("after_high_ns", "after_low_ns")

EAGER = "aten::"  # PyTorch's own operators; what others bring along has been fused by hand

# Tensors that each operation of an update reads and writes, at least and at most: with a number or
# another tensor. A fused update of Adam reads parameter, gradient and two moments, and writes all
# but the gradient; one of SGD has one moment or none (torch/optim/adam.py and sgd.py).
_PASSES = {
    **dict.fromkeys(("add", "sub", "mul", "div"), (2, 3)),
    **dict.fromkeys(("lerp", "addcmul", "maximum"), (3, 3)),
    **dict.fromkeys(("sqrt", "neg", "reciprocal"), (2, 2)),
    "addcdiv": (4, 4),
}
FUSED_PASSES = {"Adam": 7, "AdamW": 7, "SGD": 5}
"""Tensors that a fused update reads and writes, by the optimizer's name."""


def chains(calls: BusyCalls) -> pd.DataFrame:
    """Return what calls of chains lose; see ``analyzers.work.chains``.

    Returns:
        One row a call: ``node`` (row of ``calls.nodes``), ``low_ns``, ``high_ns``,
        ``spared_bytes`` (at most), ``chain`` (number of the chains that are alike),
        ``is_absorbed`` (it becomes part of another call's kernel).
    """
    node_of = np.full(len(calls.facts.launches), -1)
    node_of[calls.launches["launch"]] = calls.launches["node"]
    free = calls.nodes["free_ns"].to_numpy()
    kinds = fusible_chains(calls.facts, calls.work)
    columns = (kinds[name] for name in ("launches", "busy_ns", *_AFTER, "spared_bytes_high"))
    parts = [
        _of_kind(node_of[launches], free, number, numbers)
        for number, (launches, *numbers) in enumerate(zip(*columns, strict=True))
    ]
    if not parts:
        return nothing_lost(spared_bytes=np.empty(0), chain=np.empty(0, np.int64))
    return pd.concat(parts, ignore_index=True)


def _of_kind(node: Array, free: Array, number: int, sums: Sequence[float]) -> pd.DataFrame:
    """Return the rows of chains that are alike; all of their calls save the same share."""
    first = np.repeat(node[:, 0], node.shape[1])
    nodes, place = np.unique(node, return_index=True)
    busy_ns, after_high_ns, after_low_ns, spared_bytes = sums
    least, most = (1 - after / max(busy_ns, 1) for after in (after_high_ns, after_low_ns))
    return pd.DataFrame(
        {
            "node": nodes,
            "low_ns": (free[nodes] * least).astype(np.int64),
            "high_ns": (free[nodes] * most).astype(np.int64),
            "spared_bytes": spared_bytes / len(nodes),
            "chain": number,
            "is_absorbed": nodes != first[place],
        }
    )


def nothing_lost(**columns: Array) -> pd.DataFrame:
    """Return a table of losses without rows, with further columns of its pattern."""
    whole = {name: np.empty(0, np.int64) for name in ("node", "low_ns", "high_ns")}
    return pd.DataFrame({**whole, **columns, "is_absorbed": np.empty(0, dtype=bool)})


# --- attention -----------------------------------------------------------------------------------


def attention_in_pieces(calls: BusyCalls) -> pd.DataFrame:
    """Return what stands between two products of matrices around a softmax of their scores.

    One kernel of attention keeps the scores on the multiprocessors. At least half of the time
    between both products is saved, since the softmax itself remains; at most all of it.
    """
    nodes = calls.nodes
    place = np.arange(len(nodes))
    fusible = calls.of_class(*FUSIBLE) & ~nodes["is_compute"].to_numpy()
    before = np.maximum.accumulate(np.where(fusible, -1, place))
    behind = np.minimum.accumulate(np.where(fusible, len(nodes), place)[::-1])[::-1]
    softmax = np.flatnonzero(calls.of_class(WorkClass.SOFTMAX) & fusible)
    softmax = softmax[(before[softmax] >= 0) & (behind[softmax] < len(nodes))]
    stream = calls.stream
    softmax = softmax[(stream[before[softmax]] == stream[softmax])]
    softmax = softmax[(stream[behind[softmax]] == stream[softmax])]
    columns = [nodes["key"].to_numpy()[at] for at in (before[softmax], softmax, behind[softmax])]
    kinds, first = np.unique(np.stack(columns), axis=1, return_inverse=True)
    fits = np.array([_is_attention(calls, *kind) for kind in kinds.T.tolist()], dtype=bool)
    softmax = softmax[fits[first.reshape(-1)]] if len(softmax) else softmax
    starts = np.zeros(len(nodes) + 1, np.int64)
    np.add.at(starts, before[softmax] + 1, 1)
    np.add.at(starts, behind[softmax], -1)
    chosen = (np.cumsum(starts[:-1]) > 0) & (nodes["free_ns"] > 0).to_numpy() & fusible
    chosen &= calls.of_keys(_operator_texts(calls).startswith(EAGER))
    rows = np.flatnonzero(chosen)
    free = nodes["free_ns"].to_numpy()[rows].astype(np.int64)
    columns_of = {"node": rows, "low_ns": free // 2, "high_ns": free}
    return pd.DataFrame({**columns_of, "is_absorbed": np.ones(len(rows), dtype=bool)})


def _is_attention(calls: BusyCalls, before: int, softmax: int, behind: int) -> bool:
    """Tell whether products of matrices stand around a softmax of scores, by their keys."""
    if min(before, softmax, behind) < 0:
        return False
    keys = calls.work.calls.keys
    scores = input_list(str(keys["shapes"].iloc[softmax]))
    if not scores or not isinstance(scores[0], list) or len(scores[0]) < 3:
        return False
    elements = int(np.prod(scores[0]))
    made = _product_elements(calls, before), _product_elements(calls, behind)
    return None not in made and elements in (made[0], *_input_elements(calls, behind))


def _product_elements(calls: BusyCalls, key: int) -> int | None:
    """Return the elements of what a product of several pairs of matrices writes."""
    row = calls.work.calls.keys.iloc[key]
    shape = product_shape(str(row["operator"]), str(row["shapes"]))
    return shape.batch * shape.rows * shape.columns if shape and shape.batch > 1 else None


def _input_elements(calls: BusyCalls, key: int) -> list[int]:
    shapes = input_list(str(calls.work.calls.keys["shapes"].iloc[key]))
    return [int(np.prod(s)) for s in shapes if isinstance(s, list) and len(s) > 1]


# --- optimizers ----------------------------------------------------------------------------------


def optimizer_passes(calls: BusyCalls) -> pd.DataFrame:
    """Return what an optimizer loses that goes over its tensors once for each operation."""
    update = optimizer_launches(calls.facts, calls.ledger, UPDATE)
    fused = FUSED_PASSES.get(update.name)
    if fused is None:
        return nothing_lost()
    launch = calls.launches["launch"].to_numpy()[calls.nodes["first"]]
    names = _operator_texts(calls)
    chosen = calls.of_class(WorkClass.OPTIMIZER, WorkClass.ELEMENTWISE) & update.inside[launch]
    chosen &= calls.of_keys(names.startswith(EAGER) & ~names.contains("_fused_"))
    rows = np.flatnonzero(chosen & (calls.nodes["free_ns"] > 0).to_numpy())
    least, most = _passes(calls.operators[rows])
    free = calls.nodes["free_ns"].to_numpy()[rows]
    return pd.DataFrame(
        {
            "node": rows,
            "low_ns": (free * max(1 - fused / least, 0.0)).astype(np.int64),
            "high_ns": (free * max(1 - fused / most, 0.0)).astype(np.int64),
            "is_absorbed": np.ones(len(rows), dtype=bool),
        }
    )


def _operator_texts(calls: BusyCalls) -> Any:
    """Return pandas' methods for texts, of the operators of ``calls.work.calls.keys``."""
    return calls.work.calls.keys["operator"].astype(str).str


def _passes(operators: Array) -> tuple[float, float]:
    """Return how often an update reads or writes each of its tensors, at least and at most.

    The operation that is called least often is called once for each tensor, or list of tensors.
    """
    names = pd.Series(operators.astype(str)).str.removeprefix(EAGER)
    counts = names.str.removeprefix("_foreach_").str.rstrip("_").value_counts()
    counts = counts[counts.index.isin(_PASSES)]
    if not len(counts):
        return 1.0, 1.0
    each = counts / counts.min()
    least, most = (sum(n * _PASSES[str(op)][end] for op, n in each.items()) for end in (0, 1))
    return float(least), float(most)
