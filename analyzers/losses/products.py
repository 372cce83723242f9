"""Matrix multiplies and attention far below their roofs; multiplies that mostly read weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.intervals import Array
from analyzers.losses.busy_calls import BusyCalls
from analyzers.words import count_text
from analyzers.work.classes import WorkClass, kernel_tile
from analyzers.work.element_types import SIZES, TYPES
from analyzers.work.inputs import input_list, shape_text

FAR_BELOW = 0.5  # of the roof; large products reach 0.6 to 0.8 of it, whatever the library
REACHABLE = 0.8  # of the roof, at most; published figures of tuned libraries end there
SHORTEST_NS = 10_000  # of a call, on average: a shorter one is bound by its launch and its ramp

# FlashAttention 2 reaches 0.35 of an H100's peak and 0.6 to 0.7 of an A100's, FlashAttention 3
# 0.75 of an H100's (Shah et al., "FlashAttention-3", arXiv:2407.08608, figures 5 and 6).
ATTENTION_FAR_BELOW = 0.3
ATTENTION_REACHABLE = 0.6
ATTENTION_SHORTEST_NS = 50_000

ALIGNED_BYTES = 16  # tensor cores take operands whose rows begin there (NVIDIA, "Matrix
# Multiplication Background User's Guide", tensor core requirements)
NOTABLE_IDLE = 0.25  # of the multiprocessors' time, from which on tiles and waves explain a loss
LONG_INNER = 4  # times both outer dimensions: many multiprocessors could share one product

MOST_WEIGHTS = 0.8  # of the bytes; from here on a second row costs next to nothing
NEAR_MEMORY_ROOF = 0.5  # of the bandwidth; slower products have other troubles
OF_VOCABULARY = 5  # times as many columns as the model is wide; layers have 4 at most
NARROW_WEIGHTS = 0.5  # bytes of an 8-bit weight for each of a 16-bit one

# Places of both factors among the inputs, and whether the second is stored as [N, K].
_FACTORS = {
    "aten::mm": (0, 1, False),
    "aten::bmm": (0, 1, False),
    "aten::addmm": (1, 2, False),
    "aten::baddbmm": (1, 2, False),
    "aten::matmul": (0, 1, False),
    "aten::linear": (0, 1, True),
    "aten::_scaled_mm": (0, 1, False),
    "aten::_addmm_activation": (1, 2, False),
    "vllm::rocm_unquantized_gemm": (0, 1, True),
    "aiter::gemm_a16w16": (0, 1, True),
}


@dataclass(frozen=True)
class ProductShape:
    """One product of matrices, as its inputs tell: batch, rows, columns and inner dimension."""

    batch: int
    rows: int
    columns: int
    inner: int

    @property
    def weight_elements(self) -> int:
        """Elements of the second factor, if it is one matrix for all; else 0."""
        return self.inner * self.columns if self.batch == 1 else 0


def product_shape(operator: str, shapes: str) -> ProductShape | None:
    """Return the dimensions of a product; None where its inputs do not tell them."""
    places, inputs = _FACTORS.get(operator), input_list(shapes)
    if places is None or len(inputs) <= max(places[:2]):
        return None
    left, right = inputs[places[0]], inputs[places[1]]
    if not (isinstance(left, list) and isinstance(right, list) and min(len(left), len(right)) > 1):
        return None
    columns = int(right[-2] if places[2] else right[-1])
    together = len(right) == 2  # rows of all batches meet one matrix
    batch = 1 if together else int(np.prod(left[:-2]))
    rows = int(np.prod(left[:-1])) if together else int(left[-2])
    return ProductShape(batch, rows, columns, int(left[-1]))


def products_below_roof(calls: BusyCalls) -> pd.DataFrame:
    """Return what matrix multiplies far below their roof lose.

    Returns:
        Columns of ``analyzers.losses.kernel_work.WorkLoss.nodes``; and ``kind`` (number of calls
        with the same work).
    """
    return _far_below(calls, WorkClass.MATMUL, FAR_BELOW, REACHABLE, SHORTEST_NS)


def attention_below_roof(calls: BusyCalls) -> pd.DataFrame:
    """Return what attention that one kernel carries out loses below its roof; columns as above."""
    limits = (ATTENTION_FAR_BELOW, ATTENTION_REACHABLE, ATTENTION_SHORTEST_NS)
    losing = _far_below(calls, WorkClass.ATTENTION, *limits)
    binds = calls.nodes["is_compute"].to_numpy()[losing["node"]]
    return losing[binds].reset_index(drop=True)


def _far_below(
    calls: BusyCalls, one: WorkClass, far_below: float, reachable: float, shortest_ns: int
) -> pd.DataFrame:
    nodes = calls.nodes
    chosen = (nodes["least_ns"] > 0) & (nodes["free_ns"] > 0) & ~nodes["is_conversion"]
    rows = np.flatnonzero(calls.of_class(one) & chosen.to_numpy())
    device, key = (nodes[name].to_numpy(np.int64)[rows] for name in ("device", "key"))
    kind = pd.factorize(device * (1 << 32) + key)[0]
    busy, least = (nodes[name].to_numpy()[rows] for name in ("busy_ns", "least_ns"))
    each = np.bincount(kind, busy) / np.maximum(np.bincount(kind), 1)
    share = np.bincount(kind, least) / np.maximum(np.bincount(kind, busy), 1)
    far = ((share < far_below) & (each >= shortest_ns))[kind]
    free = nodes["free_ns"].to_numpy()[rows]
    most = np.maximum(free - least / reachable * free / np.maximum(busy, 1), 0)
    frame = pd.DataFrame(
        {
            "node": rows,
            "low_ns": np.zeros(len(rows), np.int64),
            "high_ns": most.astype(np.int64),
            "kind": kind,
            "is_absorbed": np.zeros(len(rows), dtype=bool),
        }
    )
    losing: pd.DataFrame = frame[far & (most > 0)].reset_index(drop=True)
    return losing


# --- why a product is slow -----------------------------------------------------------------------


def why_slow(calls: BusyCalls, node: int) -> str:
    """Return what the shape of a product tells about its speed; empty when nothing."""
    key = int(calls.nodes["key"].iloc[node])
    keys = calls.work.calls.keys
    shape = product_shape(str(calls.operators[node]), str(keys["shapes"].iloc[key]))
    if shape is None:
        return ""
    item = float(SIZES[int(keys["type"].iloc[key])])
    odd = [d for d in (shape.rows, shape.inner, shape.columns) if (d * item) % ALIGNED_BYTES]
    odd = [d for d in odd if d > 1]
    if odd and item >= 1:
        times = round(ALIGNED_BYTES / item)
        return f"{odd[-1]:,} is no multiple of {times}, so that rows do not begin at 16 bytes"
    launch = int(calls.launches["launch"].iloc[int(calls.nodes["first"].iloc[node])])
    return _quantised(calls.facts, shape, launch)


def _quantised(facts: Facts, shape: ProductShape, launch: int) -> str:
    """Say how tiles and waves leave multiprocessors idle; empty when they do not."""
    name_id = facts.launches["name_id"].to_numpy()[[launch]]
    tile = kernel_tile(str(facts.trace.names(name_id)[0]))
    device = int(facts.launches["device"].iloc[launch])
    units = int(facts.devices["sm_count"].iloc[device])
    if len(tile) < 2 or units <= 0:
        return ""
    down, across = -(-shape.rows // tile[0]), -(-shape.columns // tile[1])
    tiles = shape.batch * down * across
    filled = shape.rows * shape.columns / (down * tile[0] * across * tile[1])
    waves = tiles / units
    used = filled * waves / np.ceil(waves)
    if used > 1 - NOTABLE_IDLE:
        return ""
    text = f"{count_text(tiles, 'tile')} of {tile[0]} by {tile[1]} for {units} multiprocessors"
    is_long = shape.inner >= LONG_INNER * max(shape.rows, shape.columns)
    if tiles < units and is_long:
        return f"{text}, and an inner dimension of {shape.inner:,} that nobody splits"
    return text


def work_text(calls: BusyCalls, node: int) -> str:
    """Write what a call multiplies: ``aten::mm of 64x512, 512x64 in bf16``."""
    key = int(calls.nodes["key"].iloc[node])
    keys = calls.work.calls.keys
    kind = int(keys["type"].iloc[key])
    of_type = f" in {TYPES[kind].name}" if kind >= 0 else ""
    return f"{calls.operators[node]} of {shape_text(str(keys['shapes'].iloc[key]))}{of_type}"


# --- weights -------------------------------------------------------------------------------------


def weight_reads(calls: BusyCalls) -> pd.DataFrame:
    """Return products of few rows whose time is that of reading weights, near the memory's limit.

    Returns:
        Columns of ``analyzers.losses.kernel_work.WorkLoss.nodes``, for weights in 8 bits; and
        ``rows``, ``weight_bytes``, ``more_rows`` (times as many rows until arithmetic binds) and
        ``is_head`` (it makes a vocabulary, once for each token).
    """
    nodes = calls.nodes
    chosen = (nodes["least_ns"] > 0) & ~nodes["is_compute"] & ~nodes["is_conversion"]
    chosen &= (nodes["free_ns"] > 0) & calls.of_class(WorkClass.MATMUL)
    chosen &= nodes["least_ns"] >= NEAR_MEMORY_ROOF * nodes["busy_ns"]
    rows = np.flatnonzero(chosen.to_numpy())
    tables = _weights_of_keys(calls, nodes["key"].to_numpy()[rows])
    moved, weights = nodes["bytes"].to_numpy()[rows], tables["weight_bytes"].to_numpy()
    weights = weights * nodes["part"].to_numpy()[rows]
    is_wide = (tables["item"] >= 2).to_numpy()  # narrower weights are quantised already
    mostly = (weights >= MOST_WEIGHTS * moved) & is_wide
    saved = nodes["free_ns"].to_numpy()[rows] * weights / np.maximum(moved, 1) * NARROW_WEIGHTS
    flop_ns = _compute_ns(calls, rows)
    frame = pd.DataFrame(
        {
            "node": rows,
            "low_ns": (saved / 2).astype(np.int64),
            "high_ns": saved.astype(np.int64),
            "rows": tables["rows"].to_numpy(),
            "weight_bytes": weights,
            "is_head": tables["is_head"].to_numpy(),
            "more_rows": nodes["least_ns"].to_numpy()[rows] / np.maximum(flop_ns, 1e-9),
            "is_absorbed": np.zeros(len(rows), dtype=bool),
        }
    )
    reading: pd.DataFrame = frame[mostly].reset_index(drop=True)
    return reading


@dataclass(frozen=True)
class CacheReads:
    """What attention that is bound by memory reads: keys and values of earlier tokens.

    Attributes:
        bytes: How many it reads of them at least.
        least_ns: How long that takes by the bandwidth.
        calls: How many there are.
    """

    bytes: float
    least_ns: float
    calls: int


def cache_reads(calls: BusyCalls, tokens: int) -> CacheReads:
    """Return what decoding reads of its cache, as far as the shapes of attention are known.

    Attention of a prompt is bound by operations; that of one new token for each sequence reads all
    keys and values once for a handful of them. What batches of other sizes read is left out: it
    belongs to other tokens.

    Args:
        calls: The calls of the window.
        tokens: New tokens of each call, one for a sequence.
    """
    nodes = calls.nodes
    chosen = calls.of_class(WorkClass.ATTENTION) & (nodes["least_ns"] > 0).to_numpy()
    own = nodes[chosen & ~nodes["is_compute"].to_numpy()]
    keys = calls.work.calls.keys
    used, code = np.unique(own["key"].to_numpy(), return_inverse=True)
    texts = keys["shapes"].iloc[used].astype(str)
    queries = [decode_queries(text) for text in texts]
    matching = np.array([q is not None and q[0] == tokens for q in queries], dtype=bool)
    elements = np.array([q[1] if q else 0 for q in queries], np.float64)
    item = SIZES[keys["type"].to_numpy(int)[used]] if len(used) else np.empty(0)
    beside = (2 * elements * item)[code] * own["part"].to_numpy()  # queries, and as large a result
    moved, least = (own[name].to_numpy() for name in ("bytes", "least_ns"))
    read = np.maximum(moved - beside, 0)
    of_tokens = matching[code] & (read > 0)
    least_ns = least * read / np.maximum(moved, 1)
    total, total_ns = (float(of[of_tokens].sum()) for of in (read, least_ns))
    return CacheReads(total, total_ns, int(of_tokens.sum()))


def decode_queries(shapes: str) -> tuple[int, int] | None:
    """Return how many queries attention of one new token for each sequence has, and elements.

    The queries, or a result of their shape, are the first input of at least three dimensions:
    ``[tokens, heads, width]``, or batch first and one token in the second or third of four.

    Returns:
        None where the inputs do not tell, or where there are several new tokens for a sequence.
    """
    inputs = (one for one in input_list(shapes) if isinstance(one, list) and len(one) >= 3)
    queries = next(inputs, None)
    if queries is None or len(queries) > 4 or (len(queries) == 4 and 1 not in queries[1:3]):
        return None
    return int(queries[0]), int(np.prod(queries))


def _weights_of_keys(calls: BusyCalls, key: Array) -> pd.DataFrame:
    keys = calls.work.calls.keys
    used, code = np.unique(key, return_inverse=True)
    texts = keys[["operator", "shapes"]].iloc[used].to_numpy().tolist()
    shapes = [product_shape(str(operator), str(text)) for operator, text in texts]
    item = SIZES[keys["type"].to_numpy(int)[used]] if len(used) else np.empty(0)
    elements = np.array([s.weight_elements if s else 0 for s in shapes], np.float64)
    rows = np.array([s.rows if s else 0 for s in shapes], np.int64)
    is_head = [s is not None and s.columns >= OF_VOCABULARY * s.inner for s in shapes]
    columns = {"rows": rows, "item": item, "weight_bytes": elements * item}
    table = pd.DataFrame({**columns, "is_head": np.array(is_head, dtype=bool)})
    return table.iloc[code].reset_index(drop=True)


def _compute_ns(calls: BusyCalls, rows: Array) -> Array:
    """Return how long the operations of calls take at the peak of their type."""
    key, device = (calls.nodes[name].to_numpy()[rows] for name in ("key", "device"))
    kinds = calls.work.calls.keys["type"].to_numpy(int)[key]
    result = np.full(len(rows), np.nan)
    for number, roof in enumerate(calls.work.roofs):
        own = device == number
        peaks = roof.peaks_of(kinds[own], np.ones(int(own.sum()), dtype=bool))
        result[own] = calls.nodes["flop"].to_numpy()[rows[own]] / peaks * 1e9
    return result
