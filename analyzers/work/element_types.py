"""Types of elements, by the names that PyTorch writes into traces: size, order, precision.

Names: ``c10/core/ScalarType.h`` and ``c10::demangle`` of PyTorch; the numbers that stand for types
among the values of inputs are those of ``ScalarType``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from analyzers.intervals import Array

BOOL, INTEGER, FLOAT, COMPLEX = range(4)
"""Categories in the order of type promotion."""

NO_TYPE = -1


class ElementType(NamedTuple):
    """A type of elements.

    Attributes:
        name: Short name, which is also the column of its peak in the table of devices.
        bytes: Size of one element; of packed types, of what holds several.
        category: Place in the order of promotion.
    """

    name: str
    bytes: float
    category: int


TYPES = (
    ElementType("bool", 1, BOOL),
    ElementType("int8", 1, INTEGER),
    ElementType("int16", 2, INTEGER),
    ElementType("int32", 4, INTEGER),
    ElementType("int64", 8, INTEGER),
    ElementType("fp4", 1, FLOAT),  # two in a byte: the shape that is recorded is that of the bytes
    ElementType("fp8", 1, FLOAT),
    ElementType("fp16", 2, FLOAT),
    ElementType("bf16", 2, FLOAT),
    ElementType("fp32", 4, FLOAT),
    ElementType("fp64", 8, FLOAT),
    ElementType("complex64", 8, COMPLEX),
    ElementType("complex128", 16, COMPLEX),
    ElementType("tf32", 4, FLOAT),  # never a type of data: how fp32 is multiplied
)
CODE_OF = {kind.name: code for code, kind in enumerate(TYPES)}
SIZES: Array = np.array([*(kind.bytes for kind in TYPES), np.nan])  # the last is that of NO_TYPE
CATEGORIES: Array = np.array([*(kind.category for kind in TYPES), NO_TYPE])
RANKS: Array = np.array([*(kind.category * 100 + kind.bytes for kind in TYPES), -1])

_BITS = {  # of exponent and fraction: IEEE 754, and of the narrow types the wider of their forms
    **{"int8": (0, 7), "fp4": (2, 1), "fp8": (5, 3), "bf16": (8, 7), "fp16": (5, 10)},
    **{"tf32": (8, 10), "fp32": (8, 23), "fp64": (11, 52)},
}

_NAMES = {
    "bool": "bool",
    "signed char": "int8",
    "char": "int8",
    "unsigned char": "int8",
    "qint8": "int8",
    "quint8": "int8",
    "short": "int16",
    "short int": "int16",
    "unsigned short": "int16",
    "int": "int32",
    "unsigned int": "int32",
    "qint32": "int32",
    "long": "int64",
    "long int": "int64",
    "long long": "int64",
    "unsigned long": "int64",
    "half": "fp16",
    "bfloat16": "bf16",
    "float": "fp32",
    "double": "fp64",
    **{"float16": "fp16", "float32": "fp32", "float64": "fp64"},  # as torch.dtype is written
    "complex<float>": "complex64",
    "complex<double>": "complex128",
    "complex<half>": "fp32",  # as large as one
}
_PREFIX = re.compile(r"\b(?:c10|at|struct|class)(?:::|\s+)")
_NUMBERS = {
    **{0: "int8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "fp16", 6: "fp32"},
    **{7: "fp64", 9: "complex64", 10: "complex128", 11: "bool", 15: "bf16"},
    **{23: "fp8", 24: "fp8", 25: "fp8", 26: "fp8"},
}
NOT_TENSORS = ("", "Scalar", "ScalarList", "Int", "Double", "Bool", "GenericList", "Device", "None")
"""Types of inputs that are no tensors, in new and in old traces."""


def type_code(name: str) -> int:
    """Return the place in ``TYPES`` of a type as a trace names it; ``NO_TYPE`` when unknown."""
    plain = _PREFIX.sub("", name).strip().lower()
    if plain.startswith("float8"):
        return CODE_OF["fp8"]
    if plain.startswith("float4"):
        return CODE_OF["fp4"]
    return CODE_OF.get(_NAMES.get(plain, plain), NO_TYPE)


def code_of_number(number: float) -> int:
    """Return the place in ``TYPES`` of PyTorch's number of a type; ``NO_TYPE`` when unknown."""
    name = _NUMBERS.get(int(number)) if np.isfinite(number) else None
    return CODE_OF.get(name or "", NO_TYPE)


def is_narrower(new: str, base: str) -> bool:
    """Tell whether a type has less range or fewer digits than another; False where unknown.

    Of bf16 and fp16 each is narrower than the other: one in digits, one in range.
    """
    if new not in _BITS or base not in _BITS:
        return False
    return any(ours < theirs for ours, theirs in zip(_BITS[new], _BITS[base], strict=True))


def promoted(codes: Array, ranks: Array) -> Array:
    """Return the type that an operation on several tensors computes in.

    The highest category wins, and in it tensors that have dimensions before those that have none
    (PyTorch, "Tensor Attributes", type promotion); of the types that are left, the largest.

    Args:
        codes: Places in ``TYPES``, a row an operation and a column an operand.
        ranks: Dimensions of each operand, -1 for one that is no tensor.
    """
    is_tensor = (ranks >= 0) & (codes != NO_TYPE)
    category = np.where(is_tensor, CATEGORIES[codes], -1)
    high = category.max(axis=1, keepdims=True)
    has_dims = (ranks > 0) & is_tensor
    top_of_dims = np.where(has_dims, category, -1).max(axis=1, keepdims=True)
    counts = np.where(top_of_dims == high, has_dims, is_tensor) & (category == high)
    order = np.where(counts, RANKS[codes], -1)
    best = order.argmax(axis=1)
    chosen = codes[np.arange(len(codes)), best]
    both_halves = (
        (counts & (codes == CODE_OF["fp16"])).any(axis=1)
        & (counts & (codes == CODE_OF["bf16"])).any(axis=1)
        & (SIZES[chosen] == SIZES[CODE_OF["fp16"]])
    )
    result: Array = np.where(both_halves, CODE_OF["fp32"], chosen)
    return np.where(order.max(axis=1) < 0, NO_TYPE, result)
