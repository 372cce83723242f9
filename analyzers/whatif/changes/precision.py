"""Products in 32 bits are computed in types that matrix units take faster."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.finding import Cause
from analyzers.intervals import Array
from analyzers.whatif.changes.change import Change, Reach, Result
from analyzers.whatif.changes.scaled_graph import MIN_SHARE, NO_SHAPES, scaled
from analyzers.whatif.graph import Graph
from analyzers.words import count_text
from analyzers.work.account import LaunchWork, window_work
from analyzers.work.element_types import CODE_OF
from analyzers.work.roofs import least_seconds

NAME, ORDER = "precision", 11
HALVED_SHARE = 0.5  # of the roof, at worst: a higher roof is harder to reach
NEAR_ROOF = 0.25  # kernels with less are held up by something else, and may stay as they are
_ALL_IN_32, _NARROW = ("fp32", "tf32"), ("bf16", "fp16")
_HOW = {
    "tf32": "torch.backends.cuda.matmul.fp32_precision = 'tf32' rounds factors to 10 bits",
    "bf16": "torch.autocast casts weights and activations; casting takes no time here",
}


def make(facts: Facts, graph: Graph, reach: Reach) -> Result:
    """Compute products in 16 bits, or those in plain fp32 in TF32."""
    work = window_work(facts, reach.window, reach.device_peaks)
    frame, keys = work.launches, work.calls.keys
    key = frame["key"].to_numpy()
    if not frame["is_modelled"].any():
        return NO_SHAPES
    on_units = keys["on_matrix_units"].to_numpy(bool)[key] & frame["is_modelled"].to_numpy()
    kind = keys["type"].to_numpy(int)[key]
    wide = on_units & np.isin(kind, [CODE_OF[name] for name in _ALL_IN_32])
    if not wide.any():
        return "no product is computed in fp32 or TF32"
    changes = []
    for name, narrow, chosen in (
        (NAME, _NARROW, wide),
        (f"{NAME}:tf32", ("tf32",), wide & (kind == CODE_OF["fp32"])),
    ):
        ratio = _ratio(work, frame[chosen], narrow)
        won = (frame["busy_ns"].to_numpy()[chosen] * (1 - ratio)).sum()
        if won >= MIN_SHARE * reach.length_ns:
            changes.append(_change(graph, frame[chosen], ratio, name))
    return changes or "the products in fp32 take too little time, or the device computes no faster"


def _ratio(work: LaunchWork, frame: pd.DataFrame, narrow: tuple[str, ...]) -> Array:
    """Return the least time in another type as a part of the least time now, 1 where unknown."""
    keys = work.calls.keys.iloc[frame["key"].to_numpy()]
    flop, moved = keys["needed_flop"].to_numpy(float), keys["bytes"].to_numpy(float)
    now = keys["type"].to_numpy(int)
    units = np.ones(len(frame), dtype=bool)
    after = np.full(len(frame), np.nan)
    device = frame["device"].to_numpy()
    for number, roof in enumerate(work.roofs):
        name = next((n for n in narrow if np.isfinite(roof.peak(n, on_matrix_units=True))), "")
        if not name:
            continue
        rows = device == number
        size = 1.0 if name == "tf32" else 0.5  # bytes beside those of 32 bits
        kind = np.full(len(frame), CODE_OF[name])
        before = least_seconds(roof, flop, moved, now, units)[0]
        least = least_seconds(roof, flop, size * moved, kind, units)[0]
        after[rows] = (least / before)[rows]
    result: Array = np.clip(np.nan_to_num(after, nan=1.0), 0, 1)
    return result


def _change(graph: Graph, frame: pd.DataFrame, ratio: Array, name: str) -> Change:
    launches = frame["launch"].to_numpy()
    near = frame["least_ns"].to_numpy() >= NEAR_ROOF * frame["busy_ns"].to_numpy()
    is_tf32 = name != NAME
    where_to = "TF32" if is_tf32 else "16 bits"
    return Change(
        id=name,
        cause=Cause.COMPUTE,
        title=f"computing {count_text(len(frame), 'product')} in {where_to} instead of "
        f"{'plain fp32' if is_tf32 else '32 bits'}",
        count=len(frame),
        best=scaled(graph, launches, ratio),
        worst=scaled(graph, launches, np.where(near, np.minimum(ratio / HALVED_SHARE, 1.0), 1.0)),
        assumptions=(
            "At best these kernels come as near to the higher roof as they are to theirs now, at "
            f"worst half as near; those that reach less than {100 * NEAR_ROOF:.0f} % of it now win "
            "nothing at worst",
            _HOW["tf32" if is_tf32 else "bf16"],
        ),
    )
