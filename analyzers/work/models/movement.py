"""Reductions, gathers, sorts, pools, losses: what is read and what comes out.

One operation for each element that is read, as TraceLens counts reductions; gathers, sorts and
copies of lists compute nothing that is counted. The shape of a result follows from the dimensions
that were passed by value.
"""

from __future__ import annotations

import numpy as np

from analyzers.intervals import Array
from analyzers.work.element_types import CATEGORIES, CODE_OF, FLOAT, SIZES
from analyzers.work.inputs import MAX_RANK, Inputs
from analyzers.work.models.elementwise import SAME, elementwise
from analyzers.work.models.work import Model, Work

INDEX_BYTES = 8


def _kept_share(inputs: Inputs, place: int) -> Array:
    """Return the elements that are left when the dimensions in a list are gone."""
    left = np.ones(len(inputs))
    for row, text in enumerate(inputs.texts(place)):
        rank = int(inputs.rank[row, 0])
        axes = [int(part) for part in text.strip("[] ").split(",") if _is_whole(part)]
        if not axes or rank < 0:
            continue
        gone = {axis % rank for axis in axes if rank and -rank <= axis < rank}
        sizes = inputs.dims[row, 0, :rank]
        left[row] = np.prod([n for at, n in enumerate(sizes) if at not in gone], dtype=np.float64)
    return left


def _is_whole(text: str) -> bool:
    return text.strip().lstrip("-").isdigit()


def _sum_type(kind: Array) -> Array:
    """Return the type of a sum: whole numbers become 64 bits wide (``torch.sum``)."""
    return np.where((CATEGORIES[kind] < FLOAT) & (kind >= 0), CODE_OF["int64"], kind)


def reduction(result: str, axes: int = 1, *, with_index: bool = False) -> Model:
    """Return the model of a reduction.

    Args:
        result: ``same``, ``sum`` (whole numbers widen), ``bool`` or ``int64``.
        axes: Place of the dimensions that go; without a list, all do.
        with_index: Where the dimension is one number, the places of the results come out, too.
    """

    def work(inputs: Inputs) -> Work:
        """Return one operation an element, and the bytes in and out."""
        kind = inputs.type(0)
        left = _kept_share(inputs, axes)
        item = SIZES[_result_type(kind, result)]
        if with_index:
            item = item + np.where(_has_axis(inputs, axes), INDEX_BYTES, 0)
        return Work(inputs.numel(0), inputs.bytes(0) + left * item, kind)

    return work


def _has_axis(inputs: Inputs, place: int) -> Array:
    return np.array([_is_whole(text) for text in inputs.texts(place)], dtype=bool)


def _result_type(kind: Array, result: str) -> Array:
    if result == "sum":
        return _sum_type(kind)
    return kind if result == "same" else np.full(len(kind), CODE_OF[result])


def largest(inputs: Inputs) -> Work:
    """``max``: of one tensor a reduction, of two element-wise."""
    alone = reduction("same", with_index=True)(inputs)
    pair = elementwise(2, SAME, in_place=False)(inputs)
    two = inputs.has(1)
    flop = np.where(two, pair.flop, alone.flop)
    return Work(flop, np.where(two, pair.bytes, alone.bytes), alone.type)


def scan(inputs: Inputs) -> Work:
    """``cumsum``: as many come out as go in; sums of whole numbers are 64 bits wide."""
    kind = inputs.type(0)
    moved = inputs.bytes(0) + inputs.numel(0) * SIZES[_sum_type(kind)]
    return Work(inputs.numel(0), moved, kind)


def sorting(inputs: Inputs) -> Work:
    """``sort``: values and their places come out."""
    moved = inputs.bytes(0) + inputs.numel(0) * (inputs.item(0) + INDEX_BYTES)
    return Work(np.full(len(inputs), np.nan), moved, inputs.type(0))


def top_of(inputs: Inputs) -> Work:
    """``topk(x, k, dimension, …)``: all is read, k values and places come out of each row."""
    rank = np.maximum(inputs.rank[:, 0].astype(np.int64), 1)
    axis = inputs.number(2, -1.0) % rank
    length = np.array([inputs.dims[row, 0, int(at)] for row, at in enumerate(axis)])
    made = inputs.numel(0) / np.maximum(length, 1) * inputs.number(1)
    moved = inputs.bytes(0) + made * (inputs.item(0) + INDEX_BYTES)
    return Work(np.full(len(inputs), np.nan), moved, inputs.type(0))


def gathered(table: int, index: int) -> Model:
    """Return the model of rows of a table by their numbers: read once, written once.

    No more rows are read than the table has.
    """

    def work(inputs: Inputs) -> Work:
        """Return the bytes of the rows that are fetched."""
        width = inputs.numel(table) / inputs.dim(table, 0)
        rows = inputs.numel(index)
        read = np.minimum(rows, inputs.dim(table, 0)) * width
        moved = inputs.bytes(index) + (read + rows * width) * inputs.item(table)
        return Work(np.zeros(len(inputs)), moved, inputs.type(table))

    return work


def selected(inputs: Inputs) -> Work:
    """``index_select(x, dimension, index)``: what is chosen is read and written."""
    rank = np.maximum(inputs.rank[:, 0].astype(np.int64), 1)
    axis = (inputs.number(1, 0.0) % rank).astype(int)
    length = np.array([inputs.dims[row, 0, at] for row, at in enumerate(axis)])
    made = inputs.numel(0) / np.maximum(length, 1) * inputs.numel(2)
    read = np.minimum(made, inputs.numel(0))
    moved = inputs.bytes(2) + (read + made) * inputs.item(0)
    return Work(np.zeros(len(inputs)), moved, inputs.type(0))


def gathered_elements(inputs: Inputs) -> Work:
    """``gather(x, dimension, index)``: an element for each number of the index."""
    made = inputs.numel(2)
    read = np.minimum(made, inputs.numel(0))
    moved = inputs.bytes(2) + (read + made) * inputs.item(0)
    return Work(np.zeros(len(inputs)), moved, inputs.type(0))


def embedding_backward(inputs: Inputs) -> Work:
    """``embedding_dense_backward(gradient, index, rows, …)``: the gradient of the whole table."""
    width = inputs.dim(0, -1)
    made = inputs.number(2) * width
    moved = inputs.bytes(0, 1) + made * inputs.item(0)
    return Work(inputs.numel(0), moved, inputs.type(0))


def joined_lists(inputs: Inputs) -> Work:
    """``cat``, ``stack``: every tensor is read once and written once."""
    return Work(np.zeros(len(inputs)), 2 * inputs.bytes(0), inputs.type(0))


def pool_backward(index: int = -1) -> Model:
    """Return the model of a pool's gradient: ``(gradient, x, …)``, with places if there are any."""

    def work(inputs: Inputs) -> Work:
        """Return the bytes of the gradients."""
        made = inputs.numel(1) * inputs.item(1)
        places = inputs.numel(0) * INDEX_BYTES if index >= 0 else 0.0
        return Work(inputs.numel(0), inputs.bytes(0) + places + made, inputs.type(0))

    return work


def pool(*, with_index: bool, stride: int, padding: int, window: int = 1) -> Model:
    """Return the model of a pool over space, ``torch.nn.MaxPool2d``; sizes are rounded down."""

    def work(inputs: Inputs) -> Work:
        """Return the work of all windows."""
        made = inputs.numel(0)
        for axis, at in ((-1, 1), (-2, 0)):
            size = inputs.dim(0, axis)
            span = inputs.list(window, 2)[:, at]
            step = inputs.list(stride, 2)[:, at]
            step = np.where(np.isnan(step), span, step)  # an empty list: as wide as the window
            edge = np.nan_to_num(inputs.list(padding, 2)[:, at])
            made = made / size * (np.floor((size + 2 * edge - span) / step) + 1)
        item = inputs.item(0) + (INDEX_BYTES if with_index else 0)
        return Work(inputs.numel(0), inputs.bytes(0) + made * item, inputs.type(0))

    return work


def adaptive_pool(inputs: Inputs) -> Work:
    """``_adaptive_avg_pool2d(x, sizes)``."""
    planes = inputs.numel(0) / inputs.dim(0, -1) / inputs.dim(0, -2)
    made = planes * inputs.list(1, 2).prod(axis=1)
    return Work(inputs.numel(0), inputs.bytes(0) + made * inputs.item(0), inputs.type(0))


def random_numbers(inputs: Inputs) -> Work:
    """``normal_``, ``bernoulli_``: only written."""
    return Work(inputs.numel(0), inputs.numel(0) * inputs.item(0), inputs.type(0))


def dropout(inputs: Inputs) -> Work:
    """``native_dropout(x, p, train)``: the result and a byte of mask for each element come out."""
    elements = inputs.numel(0)
    return Work(elements, inputs.bytes(0) + elements * (inputs.item(0) + 1), inputs.type(0))


def likelihood(inputs: Inputs) -> Work:
    """``nll_loss_forward(x, target, …)``: one element of each row is read."""
    rows = inputs.numel(1)
    return Work(rows, inputs.bytes(1) + (rows + 2) * inputs.item(0), inputs.type(0))


def likelihood_backward(inputs: Inputs) -> Work:
    """``nll_loss_backward(gradient, x, target, …)``: the gradient of all elements is written."""
    moved = inputs.bytes(0, 2) + inputs.numel(1) * inputs.item(1)
    return Work(inputs.numel(2), moved, inputs.type(1))


assert MAX_RANK > 2

REDUCTIONS: dict[str, Model] = {
    **{f"aten::{n}": reduction("sum") for n in ("sum", "prod", "nansum")},
    **{f"aten::{n}": reduction("same") for n in ("mean", "nanmean", "amax", "amin", "logsumexp")},
    **{f"aten::{n}": reduction("same") for n in ("var", "std")},
    **{f"aten::{n}": reduction("same", 2) for n in ("norm", "linalg_vector_norm")},
    **{f"aten::{n}": reduction("bool") for n in ("all", "any")},
    **{f"aten::{n}": reduction("int64") for n in ("argmax", "argmin", "count_nonzero")},
    "aten::max": largest,
    "aten::min": largest,
    "aten::max_pool2d_with_indices": pool(with_index=True, stride=2, padding=3),
    "aten::max_pool2d": pool(with_index=True, stride=2, padding=3),
    "aten::avg_pool2d": pool(with_index=False, stride=2, padding=3),
    "aten::_adaptive_avg_pool2d": adaptive_pool,
    "aten::adaptive_avg_pool2d": adaptive_pool,
    "aten::max_pool2d_with_indices_backward": pool_backward(7),
    "aten::avg_pool2d_backward": pool_backward(),
    "aten::_adaptive_avg_pool2d_backward": pool_backward(),
    "aten::nll_loss_forward": likelihood,
    "aten::nll_loss_backward": likelihood_backward,
    "aten::nll_loss2d_forward": likelihood,
    "aten::nll_loss2d_backward": likelihood_backward,
}
"""Operators that reduce, pools and losses among them."""

SORTS: dict[str, Model] = {
    "aten::cumsum": scan,
    "aten::cumsum_": scan,
    "aten::cumprod": scan,
    "aten::sort": sorting,
    "aten::argsort": sorting,
    "aten::topk": top_of,
}
"""Operators that sort, scan or choose the largest."""

GATHERS: dict[str, Model] = {
    "aten::embedding": gathered(0, 1),
    "aten::index_select": selected,
    "aten::gather": gathered_elements,
    "aten::embedding_dense_backward": embedding_backward,
    "aten::embedding_backward": embedding_backward,
}
"""Operators that gather."""

LAYOUTS: dict[str, Model] = {
    "aten::cat": joined_lists,
    "aten::_cat": joined_lists,
    "aten::stack": joined_lists,
}
"""Operators that lay out anew."""

RANDOM: dict[str, Model] = {
    **{
        f"aten::{n}_": random_numbers
        for n in ("bernoulli", "exponential", "normal", "random", "uniform", "log_normal")
    },
    "aten::native_dropout": dropout,
    "aten::_fused_dropout": dropout,
}
"""Operators that draw random numbers."""
