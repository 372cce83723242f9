"""Modules of inference engines, of which only the shapes of weights and inputs are known.

Their type is that of the kernels, which for narrow ones is that of the weights: engines keep what
goes between modules in 16 bits, and quantise it on the way in.
"""

from __future__ import annotations

from analyzers.intervals import Array
from analyzers.work.element_types import SIZES
from analyzers.work.inputs import Inputs
from analyzers.work.models.matmul import product_type
from analyzers.work.models.work import Model, Work, matrix_work

LINEAR, NORM, EMBEDDING = "module::linear", "module::norm", "module::embedding"
INDEX_BYTES = 8
_PER_ELEMENT = 4  # operations of a norm: square, sum, scale, weight


def _item(inputs: Inputs, place: int) -> Array:
    """Return the bytes of one element of what goes between modules."""
    result: Array = SIZES[product_type(inputs.type(place))]
    return result


def linear(inputs: Inputs) -> Work:
    """``x [.., K]`` times ``weight [N, K]``, and a bias: 2 MNK operations."""
    inner, columns = inputs.dim(1, -1), inputs.dim(1, -2)
    rows = inputs.numel(0) / inner
    item = _item(inputs, 0)
    between = inputs.numel(0) + inputs.numel(2) + rows * columns
    flop = 2 * rows * columns * inner + inputs.has(2) * rows * columns
    return matrix_work(flop, inputs.bytes(1) + between * item, inputs.type(1))


def norm(inputs: Inputs) -> Work:
    """``x [.., H]`` with ``weight [H]``; a residual is added and written as well."""
    elements, item = inputs.numel(0), _item(inputs, 0)
    moved = (2 * elements + inputs.numel(1) + 2 * inputs.numel(2)) * item
    return Work(_PER_ELEMENT * elements + inputs.numel(2), moved, inputs.type(0))


def embedding(inputs: Inputs) -> Work:
    """Rows of ``weight [V, H]``, one for each index."""
    rows = inputs.numel(0)
    moved = rows * (2 * inputs.dim(1, 1) * inputs.item(1) + INDEX_BYTES)
    return Work(0 * rows, moved, inputs.type(1))


MODELS: dict[str, Model] = {LINEAR: linear, NORM: norm, EMBEDDING: embedding}
"""Modules by what their weights' shapes say they are."""
