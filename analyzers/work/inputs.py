"""Inputs of operators as arrays: one row a different set of inputs, one column an input."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from analyzers.intervals import Array
from analyzers.work.element_types import NO_TYPE, NOT_TENSORS, SIZES, promoted, type_code

MAX_RANK = 8
MIN_INPUTS = 4  # places that models may look at without asking
MAX_INPUTS = 32  # of one operator; the widest that was seen has 25
NO_TENSOR = -1


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was recorded of the inputs of some operators, all of one kind.

    Attributes:
        rank: Dimensions of each input, -1 where it is no tensor; a list of tensors has 1.
        dims: Its dimensions, filled up with 1; of a list of tensors, the elements of all.
        elements: Elements that differ: along a dimension with stride 0 there is one.
        types: Place of its type in ``TYPES``, ``NO_TYPE`` where unknown.
        values: Text of what was passed by value, empty where none was recorded.
        kernel_types: Type that the name of the operator's main kernel tells, else ``NO_TYPE``.
    """

    rank: Array
    dims: Array
    elements: Array
    types: Array
    values: Array
    kernel_types: Array

    def __len__(self) -> int:
        return len(self.rank)

    @property
    def width(self) -> int:
        """Inputs of the operator with most of them."""
        return int(self.rank.shape[1])

    def has(self, place: int) -> Array:
        """Tell where an input is a tensor."""
        if not 0 <= place < self.width:
            return np.zeros(len(self), dtype=bool)
        result: Array = self.rank[:, place] > NO_TENSOR
        return result

    def numel(self, place: int) -> Array:
        """Return the elements of an input, those of broadcast dimensions counted each time."""
        if not 0 <= place < self.width:
            return np.zeros(len(self))
        size = self.dims[:, place].astype(np.float64).prod(axis=1)
        return np.where(self.has(place), size, 0.0)

    def type(self, place: int) -> Array:
        """Return the type of an input; where it was not recorded, what the kernel's name tells."""
        if not 0 <= place < self.width:
            return np.full(len(self), NO_TYPE)
        codes = self.types[:, place]
        result: Array = np.where((codes == NO_TYPE) & self.has(place), self.kernel_types, codes)
        return result

    def item(self, place: int) -> Array:
        """Return the bytes of one element of an input; NaN where its type is unknown."""
        result: Array = SIZES[self.type(place)]
        return result

    def bytes(self, *places: int) -> Array:
        """Return the bytes that reading inputs takes, each element once; none is no bytes."""
        total = np.zeros(len(self))
        for place in places:
            if 0 <= place < self.width:
                size = self.elements[:, place] * self.item(place)
                total = total + np.where(self.has(place), size, 0.0)
        return total

    def all_bytes(self) -> Array:
        """Return the bytes of all tensors among the inputs, each once."""
        return self.bytes(*range(self.width))

    def dim(self, place: int, axis: int) -> Array:
        """Return a dimension, which may be counted from the last; NaN where there is none."""
        if not 0 <= place < self.width:
            return np.full(len(self), np.nan)
        rank = self.rank[:, place].astype(np.int64)
        at = axis if axis >= 0 else rank + axis
        at = np.broadcast_to(at, rank.shape)
        inside = (at >= 0) & (at < np.minimum(rank, MAX_RANK))
        picked = self.dims[np.arange(len(self)), place, np.where(inside, at, 0)]
        return np.where(inside, picked.astype(np.float64), np.nan)

    def number(self, place: int, otherwise: float = np.nan) -> Array:
        """Return a number that was passed by value."""
        return np.array([_number(text, otherwise) for text in self.texts(place)])

    def flag(self, place: int, otherwise: float = np.nan) -> Array:
        """Return a truth value as 1 or 0; ``otherwise`` where it was not recorded."""
        words = {"True": 1.0, "False": 0.0}
        return np.array([words.get(text, otherwise) for text in self.texts(place)])

    def list(self, place: int, length: int, otherwise: float = np.nan) -> Array:
        """Return lists as columns; a single number stands for all of them, as PyTorch reads it."""
        return np.array([_numbers(text, length, otherwise) for text in self.texts(place)]).reshape(
            len(self), length
        )

    def texts(self, place: int) -> Sequence[str]:
        """Return what was passed by value as it was written, empty where nothing was."""
        return self.values[:, place].tolist() if 0 <= place < self.width else [""] * len(self)

    def promoted(self, places: Sequence[int]) -> Array:
        """Return the type that operands are brought to."""
        within = [p for p in places if p < self.width]
        if not within:
            return np.full(len(self), NO_TYPE)
        codes = np.stack([self.type(p) for p in within], axis=1)
        return promoted(codes, self.rank[:, within])

    def take(self, rows: Array) -> Inputs:
        """Return some of the rows."""
        return Inputs(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def _number(text: str, otherwise: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return otherwise
    return value if np.isfinite(value) else otherwise


def _numbers(text: str, length: int, otherwise: float) -> list[float]:
    words = {"True": 1.0, "False": 0.0}
    parts = [part.strip() for part in text.strip("[] ").split(",")] if text.strip("[] ") else []
    numbers = [words.get(part, _number(part, otherwise)) for part in parts]
    if len(numbers) == 1:
        return numbers * length
    return numbers if len(numbers) == length else [otherwise] * length


# --- from text ----------------------------------------------------------------------------


def read_inputs(
    shapes: Sequence[str],
    types: Sequence[str],
    strides: Sequence[str],
    values: Sequence[str],
    kernel_types: Array,
) -> Inputs:
    """Read what a trace says about the inputs of operators.

    Args:
        shapes: Lists as JSON, a list an input; of a list of tensors, a list of such lists.
        types: Lists of names as JSON.
        strides: Like ``shapes``.
        values: Lists of texts as JSON.
        kernel_types: Place in ``TYPES`` that the kernel's name tells, -1 none.
    """
    decoded = [_Parsed.of(*texts) for texts in zip(shapes, types, strides, values, strict=True)]
    widest = max((max(len(p.shapes), len(p.values)) for p in decoded), default=0)
    width = min(max(widest, MIN_INPUTS), MAX_INPUTS)
    count = len(decoded)
    rank = np.full((count, width), NO_TENSOR, np.int8)
    dims = np.ones((count, width, MAX_RANK), np.int64)
    elements = np.zeros((count, width))
    codes = np.full((count, width), NO_TYPE)
    texts = np.full((count, width), "", object)
    for row, parsed in enumerate(decoded):
        values_of_row = [v if isinstance(v, str) else "" for v in parsed.values[:width]]
        texts[row, : len(values_of_row)] = values_of_row
        for place, shape in enumerate(parsed.shapes[:width]):
            name = parsed.types[place] if place < len(parsed.types) else ""
            size = _sizes(shape, name)
            if size is None:
                continue
            rank[row, place] = len(size)
            dims[row, place, : len(size)] = size
            stride = parsed.strides[place] if place < len(parsed.strides) else ()
            elements[row, place] = _different(size, stride)
            codes[row, place] = type_code(name)
    return Inputs(rank, dims, elements, codes, texts, kernel_types)


@dataclass(frozen=True)
class _Parsed:
    shapes: list[Any]
    types: list[Any]
    strides: list[Any]
    values: list[Any]

    @staticmethod
    def of(shapes: str, types: str, strides: str, values: str) -> _Parsed:
        return _Parsed(*(input_list(text) for text in (shapes, types, strides, values)))


def input_list(text: str) -> list[Any]:
    """Return a list that stands as JSON; an empty one where it does not, or was cut."""
    try:
        value = msgspec.json.decode(text) if text else []
    except (msgspec.MsgspecError, RecursionError):
        return []
    return value if isinstance(value, list) else []


def _sizes(shape: Any, name: Any) -> list[int] | None:
    """Return the dimensions of a tensor, one with all elements for a list; None for others."""
    if not isinstance(shape, list) or not isinstance(name, str):
        return None
    if any(isinstance(part, list) for part in shape):
        parts = [part for part in shape if isinstance(part, list)]
        if not all(_is_shape(part) for part in parts):
            return None
        return [sum(_product(part) for part in parts)]
    if not _is_shape(shape) or len(shape) > MAX_RANK or (not shape and name in NOT_TENSORS):
        return None
    return None if not shape and "List" in name else shape


def _is_shape(shape: list[Any]) -> bool:
    return all(type(size) is int and 0 <= size < 1 << 48 for size in shape)


def _product(shape: list[int]) -> int:
    return min(int(np.prod(shape, dtype=np.float64)), 1 << 62) if shape else 1


def _different(size: list[int], stride: Any) -> float:
    """Return how many different elements there are."""
    total = 1.0
    steps = stride if isinstance(stride, list) and len(stride) == len(size) else itertools.repeat(1)
    for length, step in zip(size, steps, strict=False):
        total *= 1 if step == 0 and length else length
    return total


def shape_text(shapes: str) -> str:
    """Return the shapes of inputs as a reader writes them: ``64x559x1024, 1024x1024``."""
    parts = []
    for shape in input_list(shapes):
        if isinstance(shape, list) and shape and not isinstance(shape[0], list):
            parts.append("x".join(map(str, shape)))
        elif isinstance(shape, list) and shape:
            parts.append(f"{len(shape)} tensors")
    return ", ".join(parts)


def plain_list(text: str) -> str:
    """Return a list that stands as JSON without the blanks that recorders write differently."""
    decoded = input_list(text)
    return json.dumps(decoded, separators=(",", ":")) if decoded else ""
