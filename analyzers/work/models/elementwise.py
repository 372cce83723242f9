"""Element-wise operators: operands at their own size, the broadcast result once.

One operation an element that is written, as TraceLens counts it, whatever the function. The type
of the result follows PyTorch's promotion; comparisons give truth values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analyzers.intervals import Array
from analyzers.work.element_types import CATEGORIES, CODE_OF, FLOAT, NO_TYPE, SIZES
from analyzers.work.inputs import MAX_RANK, Inputs
from analyzers.work.models.work import Model, Work

SAME, TRUTH, REAL = "same", "truth", "real"
"""Types of results: that of the operands, bool, or that of the operands made a real number."""

_UNARY = """
    abs acos acosh angle asin asinh atan atanh bitwise_not ceil clamp clamp_max clamp_min
    conj_physical cos cosh deg2rad digamma elu erf erfc erfinv exp exp2 expm1 floor frac gelu
    hardshrink hardsigmoid hardswish hardtanh leaky_relu lgamma log log10 log1p log2
    log_sigmoid_forward logit
    mish nan_to_num neg negative pow rad2deg reciprocal relu relu6 round rsqrt selu sgn sigmoid sign
    silu sin sinc sinh softplus softshrink sqrt square tan tanh threshold trunc special_expit
    """
_BINARY = """
    add atan2 bitwise_and bitwise_or bitwise_xor copysign div divide elu_backward floor_divide fmax
    fmin fmod gelu_backward glu_jvp hardsigmoid_backward hardswish_backward hardtanh_backward
    heaviside hypot leaky_relu_backward logaddexp logit_backward logsumexp_backward masked_fill
    maximum minimum mish_backward mse_loss_backward mul multiply remainder rsub sigmoid_backward
    silu_backward softplus_backward sub subtract tanh_backward threshold_backward true_divide xlogy
    bitwise_left_shift bitwise_right_shift prelu
    """
_TERNARY = "addcdiv addcmul lerp where"
_COMPARED = "eq ge gt le lt ne logical_and logical_or logical_xor"
_TESTED = "isfinite isinf isnan logical_not signbit isneginf isposinf"
_ALWAYS_REAL = """
    acos acosh asin asinh atan atanh cos cosh digamma div divide erf erfc erfinv exp exp2 expm1
    lgamma log log10 log1p log2 reciprocal rsqrt sigmoid sin sinh sqrt tan tanh true_divide xlogy
    atan2
    """


class _Form(NamedTuple):
    operands: int
    result: str


def _forms() -> dict[str, _Form]:
    forms, always_real = {}, frozenset(_ALWAYS_REAL.split())
    for names, operands in ((_UNARY, 1), (_BINARY, 2), (_TERNARY, 3)):
        for name in names.split():
            forms[name] = _Form(operands, REAL if name in always_real else SAME)
    forms |= {name: _Form(2, TRUTH) for name in _COMPARED.split()}
    return forms | {name: _Form(1, TRUTH) for name in _TESTED.split()}


def broadcast_elements(inputs: Inputs, places: range) -> Array:
    """Return the elements of what operands are broadcast to."""
    total = np.ones(len(inputs))
    for axis in range(1, MAX_RANK + 1):
        sizes = [np.nan_to_num(inputs.dim(place, -axis), nan=1.0) for place in places]
        # A dimension without elements is broadcast like any other: 1 and 0 give 0.
        largest = np.max(sizes, axis=0)
        total = total * np.where(np.min(sizes, axis=0) == 0, 0.0, largest)
    return total


def elementwise(operands: int, result: str, *, in_place: bool) -> Model:
    """Return the model of an element-wise operator.

    Args:
        operands: Inputs that are operands; a tensor right behind them is where the result goes.
        result: ``SAME``, ``TRUTH`` or ``REAL``.
        in_place: The first operand is overwritten.
    """

    def work(inputs: Inputs) -> Work:
        """Return one operation an element, and each input and output once."""
        places = range(operands)
        kind = inputs.promoted(places)
        if result == TRUTH:
            made = np.full(len(inputs), CODE_OF["bool"])
        elif result == REAL:
            made = np.where(CATEGORIES[kind] < FLOAT, CODE_OF["fp32"], kind)
            made = np.where(kind == NO_TYPE, NO_TYPE, made)
        else:
            made = kind
        elements = inputs.numel(0) if in_place else broadcast_elements(inputs, places)
        if in_place:
            made = inputs.type(0)
        is_given = inputs.has(operands) & ~np.full(len(inputs), in_place)
        item = np.where(is_given, inputs.item(operands), SIZES[made])
        return Work(elements, inputs.bytes(*places) + elements * item, kind)

    return work


def copied(inputs: Inputs) -> Work:
    """``copy_(to, from)``: what is read once, what is written once."""
    elements = inputs.numel(0)
    return Work(elements, inputs.bytes(1) + elements * inputs.item(0), inputs.type(0))


def converted(inputs: Inputs) -> Work:
    """``clone``, ``contiguous``: read once, written once, in the same type."""
    elements = inputs.numel(0)
    return Work(elements, inputs.bytes(0) + elements * inputs.item(0), inputs.type(0))


def written(inputs: Inputs) -> Work:
    """``fill_``, ``zero_``: only written, nothing computed."""
    elements = inputs.numel(0)
    return Work(np.zeros(len(inputs)), elements * inputs.item(0), inputs.type(0))


def gated(x: int) -> Model:
    """Return the model of an activation of one half times the other half.

    Args:
        x: Place of both halves; the result has the elements of one, wherever it goes.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work of a gate over two halves."""
        elements = inputs.numel(x) / 2
        moved = inputs.bytes(x) + elements * inputs.item(x)
        return Work(_ACTIVATION_AND_PRODUCT * elements, moved, inputs.type(x))

    return work


_FORMS = _forms()
COMPARISONS = frozenset(f"aten::{name}" for name, form in _FORMS.items() if form.result == TRUTH)
"""Operators that write truth values, whatever they read."""

_ACTIVATION_AND_PRODUCT = 5  # operations for an element: four of the activation, one product

MODELS: dict[str, Model] = {
    **{
        f"aten::{name}{ending}": elementwise(form.operands, form.result, in_place=bool(ending))
        for name, form in _FORMS.items()
        for ending in ("", "_")
    },
    "aten::copy_": copied,
    "aten::clone": converted,
    "aten::contiguous": converted,
    "aten::fill_": written,
    "aten::zero_": written,
    "aten::glu": gated(0),
    "sgl_kernel::silu_and_mul": gated(1),
    "sgl_kernel::gelu_and_mul": gated(1),
    "_C::silu_and_mul": gated(1),
    "_C::gelu_and_mul": gated(1),
    "aiter::silu_and_mul": gated(1),
    "aiter::gelu_and_mul": gated(1),
    "LigerSiLUMulFunction": elementwise(2, SAME, in_place=False),
}
"""Element-wise operators, copies and fills."""
