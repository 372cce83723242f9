"""Matrix multiplications: 2 MNK operations; both factors read, the product written.

An added matrix or bias costs one more operation for each element of the product. Sources: PyTorch's
``torch/utils/flop_counter.py`` (2 MNK), TraceLens (the addition); orders of arguments:
``native_functions.yaml`` of PyTorch, and the registrations of vLLM, SGLang, AITER, bitsandbytes,
TensorRT-LLM and TransformerEngine that stand beside each name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzers.intervals import Array
from analyzers.work.element_types import CODE_OF, NO_TYPE, SIZES, code_of_number
from analyzers.work.inputs import MAX_RANK, Inputs
from analyzers.work.models.work import Model, Work, matrix_work

_WIDE_TYPE = {CODE_OF["fp8"]: CODE_OF["bf16"], CODE_OF["fp4"]: CODE_OF["bf16"]}
_INT8, _INT32 = CODE_OF["int8"], CODE_OF["int32"]


def product_type(factor: Array, *, is_scaled: bool = False) -> Array:
    """Return the type of a product where none was asked for: wide for 8 bits, else the factor's.

    Whole numbers that are scaled become real ones.
    """
    wide = np.where(factor == _INT8, CODE_OF["bf16"] if is_scaled else _INT32, factor)
    for narrow, product in _WIDE_TYPE.items():
        wide = np.where(factor == narrow, product, wide)
    return wide


def _asked_type(inputs: Inputs, place: int, factor: Array, *, is_scaled: bool) -> Array:
    """Return the type that was asked for by number, else that of a product by itself."""
    chosen_type = np.array([code_of_number(n) for n in inputs.number(place)])
    return np.where(chosen_type == NO_TYPE, product_type(factor, is_scaled=is_scaled), chosen_type)


@dataclass(frozen=True, kw_only=True)
class ProductPlaces:
    """Where the arguments of a product of matrices stand.

    Attributes:
        left: The factor ``[…, M, K]``.
        right: The factor ``[K, N]`` or ``[B, K, N]``.
        turned: The right factor is ``[N, K]``, as weights are stored.
        added: What is added; -1 for nothing.
        counts_added: Whether the addition is counted as operations.
        more: Further tensors that are read, such as scales.
        out_type: The number of the type asked for; -1 for none.
        packed: Elements in one element of what is recorded: 2 of 4 bits in a byte.
    """

    left: int = 0
    right: int = 1
    turned: bool = False
    added: int = -1
    counts_added: bool = True
    more: tuple[int, ...] = ()
    out_type: int = -1
    packed: int = 1


def product(places: ProductPlaces) -> Model:
    """Return the model of a product of two matrices, or of as many as the first dimension says."""

    def work(inputs: Inputs) -> Work:
        """Return the work of the products."""
        inner = inputs.dim(places.left, -1) * places.packed
        columns = inputs.dim(places.right, -2 if places.turned else -1)
        rows = inputs.numel(places.left) * places.packed / inner
        flop = 2 * rows * columns * inner
        kind = inputs.type(places.left)
        made = _asked_type(inputs, places.out_type, kind, is_scaled=bool(places.more))
        written = rows * columns * SIZES[made]
        moved = inputs.bytes(places.left, places.right, places.added, *places.more) + written
        if places.counts_added:
            flop = flop + np.where(inputs.has(places.added), rows * columns, 0.0)
        return matrix_work(flop, moved, kind)

    return work


def broadcast_product(inputs: Inputs) -> Work:
    """``matmul``: batches are broadcast, vectors are matrices of one row or column."""
    left_rank, right_rank = (inputs.rank[:, p].astype(np.int64) for p in (0, 1))
    inner = inputs.dim(0, -1)
    rows = np.where(left_rank > 1, inputs.dim(0, -2), 1.0)
    columns = np.where(right_rank > 1, inputs.dim(1, -1), 1.0)
    batches = np.ones(len(inputs))
    for axis in range(3, MAX_RANK + 1):
        sides = [np.nan_to_num(inputs.dim(place, -axis), nan=1.0) for place in (0, 1)]
        batches = batches * np.maximum(*sides)
    kind = inputs.type(0)
    moved = inputs.bytes(0, 1) + batches * rows * columns * SIZES[product_type(kind)]
    return matrix_work(2 * batches * rows * columns * inner, moved, kind)


def grouped_product(left: int, right: int, *, turned: bool | None = False) -> Model:
    """Return the model of a product in which each group of rows has a matrix of its own.

    All groups together multiply every row once: ``[M, K]`` by ``[G, K, N]`` is 2 MNK; two matrices
    whose inner dimension is divided among the groups give ``[G, M, N]``.

    Args:
        left: Place of the rows.
        right: Place of the matrices.
        turned: They are ``[G, N, K]``; None: whichever fits.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work of all groups."""
        inner, last = inputs.dim(left, -1), inputs.dim(right, -1)
        is_turned = np.full(len(inputs), turned)
        if turned is None:
            is_turned = (inputs.dim(right, -2) != inner) & (last == inner)
        columns = np.where(is_turned, inputs.dim(right, -2), last)
        rows = inputs.numel(left) / inner
        kind = inputs.type(left)
        groups = np.ones(len(inputs))
        both_flat = (inputs.rank[:, left] == 2) & (inputs.rank[:, right] == 2)
        ends = inputs.dim(2, 0)  # of the groups
        groups = np.where(both_flat, np.nan_to_num(ends, nan=1.0), groups)
        written = groups * rows * columns * SIZES[product_type(kind)]
        return matrix_work(2 * rows * columns * inner, inputs.bytes(left, right) + written, kind)

    return work


def matrix_vector(matrix: int, vector: int, added: int | None = None) -> Model:
    """Return the model of a matrix times a vector: 2 MK operations."""

    def work(inputs: Inputs) -> Work:
        """Return the work of a matrix times a vector."""
        rows, inner = inputs.dim(matrix, 0), inputs.dim(matrix, 1)
        moved = inputs.bytes(matrix, vector) + rows * inputs.item(matrix)
        flop = 2 * rows * inner
        if added is not None:
            moved, flop = moved + inputs.bytes(added), flop + rows
        return Work(flop, moved, inputs.type(matrix))

    return work


def dot(inputs: Inputs) -> Work:
    """``dot``: 2 N operations."""
    moved = inputs.bytes(0, 1) + inputs.item(0)
    return Work(2 * inputs.numel(0), moved, inputs.type(0))


def packed_int4(inputs: Inputs) -> Work:
    """``_weight_int4pack_mm(x, packed, group, scales)``: N stands in the scales ``[K/g, N, 2]``."""
    inner, columns = inputs.dim(0, -1), inputs.dim(3, 1)
    rows = inputs.numel(0) / inner
    moved = inputs.bytes(0, 3) + inner * columns / 2 + rows * columns * inputs.item(0)
    return matrix_work(2 * rows * columns * inner, moved, inputs.type(0))


def transformer_engine(inputs: Inputs) -> Work:
    """``te_gemm_ts``: A at 0 and B at 5, each turned if 4 and 9 say so; D at 10, bias at 14."""
    turned_a, turned_b = inputs.number(4) == 1, inputs.number(9) == 1
    rows = np.where(turned_a, inputs.dim(0, 0), inputs.dim(0, 1))
    inner = np.where(turned_a, inputs.dim(0, 1), inputs.dim(0, 0))
    columns = np.where(turned_b, inputs.dim(5, 1), inputs.dim(5, 0))
    has_bias = inputs.has(14) & (inputs.numel(14) > 0)
    flop = 2 * rows * columns * inner + np.where(has_bias, rows * columns, 0.0)
    moved = inputs.bytes(0, 5, 14) + rows * columns * inputs.item(10)
    return matrix_work(flop, moved, inputs.type(0))


def _at(**places: Any) -> Model:
    return product(ProductPlaces(**places))


def _like_linear(**places: Any) -> Model:
    return _at(turned=True, **places)


_ADDED_FIRST = _at(left=1, right=2, added=0)
_SCALED = _at(added=4, counts_added=False, more=(2, 3), out_type=6)
_SCALED_TRTLLM = _at(added=4, counts_added=False, more=(2, 3), out_type=5)
_SCALED_SGL = _at(added=5, counts_added=False, more=(2, 3), out_type=4)
_BY_SCALES = _like_linear(more=(2, 3))

MODELS: dict[str, Model] = {
    "aten::mm": _at(),
    "aten::bmm": _at(),
    "aten::_int_mm": _at(),
    "aten::addmm": _ADDED_FIRST,
    "aten::addmm_": _ADDED_FIRST,
    "aten::_addmm_activation": _ADDED_FIRST,
    "aten::baddbmm": _ADDED_FIRST,
    "aten::baddbmm_": _ADDED_FIRST,
    "aten::linear": _like_linear(added=2),
    "aten::matmul": broadcast_product,
    "aten::mv": matrix_vector(0, 1),
    "aten::addmv": matrix_vector(1, 2, added=0),
    "aten::addmv_": matrix_vector(1, 2, added=0),
    "aten::dot": dot,
    "aten::vdot": dot,
    "aten::_scaled_mm": _SCALED,
    "aten::_grouped_mm": grouped_product(0, 1),
    "aten::_scaled_grouped_mm": grouped_product(0, 1),
    "aten::_weight_int8pack_mm": _like_linear(more=(2,)),
    "aten::_weight_int4pack_mm": packed_int4,
    "trtllm::cublas_scaled_mm": _SCALED_TRTLLM,
    "bitsandbytes::int8_linear_matmul": _like_linear(),
    "vllm::rocm_unquantized_gemm": _like_linear(added=2),
    "vllm::rocm_unquantized_gemm_impl": _like_linear(added=2),
    "vllm::gemm_with_dynamic_quant": _like_linear(),
    "vllm::w8a8_block_fp8_matmul_func": _BY_SCALES,
    # The product comes first: out, a, b, scales of a, scales of b, bias.
    "_C::cutlass_scaled_mm": _at(left=1, right=2, added=5, counts_added=False, more=(3, 4)),
    "sgl_kernel::fp8_scaled_mm": _SCALED_SGL,
    "sgl_kernel::int8_scaled_mm": _SCALED_SGL,
    "sgl_kernel::fp8_blockwise_scaled_mm": _at(more=(2, 3), out_type=4),
    "aiter::gemm_a16w16": _like_linear(added=2),
    "aiter::gemm_a8w8": _BY_SCALES,
    "aiter::gemm_a8w8_CK": _BY_SCALES,
    "aiter::gemm_a8w8_ck": _BY_SCALES,
    "aiter::gemm_a8w8_bpreshuffle": _BY_SCALES,
    "aiter::gemm_a8w8_blockscale": _BY_SCALES,
    "aiter::gemm_a8w8_blockscale_ck": _BY_SCALES,
    "aiter::gemm_a4w4": _like_linear(more=(2, 3), packed=2),
    "aiter::_gemm_a4w4_asm": _like_linear(more=(2, 3), packed=2),
    "tex_ts::te_gemm_ts": transformer_engine,
    "primus_turbo::grouped_gemm": grouped_product(0, 1, turned=None),
    "primus_turbo::grouped_gemm_impl": grouped_product(0, 1, turned=None),
    "primus_turbo_cpp_extension::grouped_gemm": grouped_product(0, 1, turned=None),
    "primus_turbo_cpp_extension::ck_grouped_gemm": grouped_product(0, 1, turned=None),
}
"""Operators that multiply matrices."""
