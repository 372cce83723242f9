"""Convolutions: each element of the output is a product over the filter.

Forward: ``2 · elements of the output · elements of a filter`` operations (of the input, when
transposed); each gradient of the backward pass costs as much again. Source: PyTorch's
``torch/utils/flop_counter.py``, ``conv_flop_count`` and ``conv_backward_flop``. A bias is not
counted as operations there. Sizes of outputs: ``torch.nn.Conv2d``, ``torch.nn.ConvTranspose2d``.

Old traces do not hold strides and paddings; ``output_from`` then takes the output's shape from
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analyzers.intervals import Array
from analyzers.work.inputs import MAX_RANK, Inputs
from analyzers.work.models.work import Model, Work, matrix_work

BATCH_AND_CHANNELS = 2  # dimensions before those of space


@dataclass(frozen=True, kw_only=True)
class ConvolutionPlaces:
    """Where the arguments of a convolution stand; -1 for what it does not take."""

    x: int = 0
    weight: int = 1
    bias: int = -1
    stride: int = -1
    padding: int = -1
    dilation: int = -1
    transposed: int = -1
    output_padding: int = -1
    is_transposed: bool = False


def _space(inputs: Inputs, at: int, place: int) -> Array:
    """Return the size of a tensor in one of its dimensions of space, 1 where it has fewer."""
    inside = inputs.rank[:, place] > BATCH_AND_CHANNELS + at
    return np.where(inside, inputs.dim(place, BATCH_AND_CHANNELS + at), 1.0)


def _setting(inputs: Inputs, place: int, at: int, otherwise: float, is_needed: bool) -> Array:
    """Return one number of a list such as the strides, NaN where it should have been recorded."""
    if place < 0:
        return np.full(len(inputs), otherwise)
    rank = inputs.rank[:, 0].astype(np.int64) - BATCH_AND_CHANNELS
    result = np.full(len(inputs), otherwise)
    for length in range(at + 1, 4):
        rows = rank == length
        if rows.any():
            numbers = inputs.take(rows).list(place, length, np.nan)[:, at]
            result[rows] = numbers if is_needed else np.nan_to_num(numbers, nan=otherwise)
    return result


def output_elements(inputs: Inputs, places: ConvolutionPlaces, transposed: Array) -> Array:
    """Return the elements of the output in space, for each filter and each of the batch."""
    total = np.ones(len(inputs))
    for at in range(MAX_RANK - BATCH_AND_CHANNELS):
        if not (inputs.rank[:, places.x] > BATCH_AND_CHANNELS + at).any():
            break
        stride = _setting(inputs, places.stride, at, 1.0, is_needed=True)
        padding = _setting(inputs, places.padding, at, 0.0, is_needed=True)
        dilation = _setting(inputs, places.dilation, at, 1.0, is_needed=False)
        extra = _setting(inputs, places.output_padding, at, 0.0, is_needed=False)
        size, reach = _space(inputs, at, places.x), _space(inputs, at, places.weight)
        span = dilation * (reach - 1)
        plain = np.floor((size + 2 * padding - span - 1) / stride) + 1
        turned = (size - 1) * stride - 2 * padding + span + extra + 1
        inside = inputs.rank[:, places.x] > BATCH_AND_CHANNELS + at
        total = total * np.where(inside, np.where(transposed, turned, plain), 1.0)
    return total


def _transposed(inputs: Inputs, places: ConvolutionPlaces) -> Array:
    if places.transposed < 0:
        return np.full(len(inputs), places.is_transposed)
    result: Array = inputs.flag(places.transposed, 0.0) == 1
    return result


def forward(places: ConvolutionPlaces) -> Model:
    """Return the model of a forward convolution."""

    def work(inputs: Inputs) -> Work:
        """Return the work of the output."""
        transposed = _transposed(inputs, places)
        filters = np.where(transposed, inputs.dim(places.weight, 1), inputs.dim(places.weight, 0))
        space = output_elements(inputs, places, transposed)
        out = inputs.dim(places.x, 0) * filters * space
        each = 2 * inputs.numel(places.weight) / inputs.dim(places.weight, 0)
        flop = each * np.where(transposed, inputs.numel(places.x), out)
        moved = inputs.bytes(places.x, places.weight, places.bias)
        return matrix_work(flop, moved + out * inputs.item(places.x), inputs.type(places.x))

    return work


def backward(gradient: int, x: int, weight: int, mask: int = -1, transposed: int = -1) -> Model:
    """Return the model of a backward convolution.

    Operations are those of both gradients. What one call had to do is less when the mask says that
    only one was asked for, as in a network's first layer.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work of the gradients that were asked for."""
        turned = (
            inputs.flag(transposed, 0.0) == 1 if transposed >= 0 else np.zeros(len(inputs), bool)
        )
        base = np.where(turned, inputs.numel(x), inputs.numel(gradient))
        each = 2 * base * inputs.numel(weight) / inputs.dim(weight, 0)
        of_each = np.ones((len(inputs), 3)) * (1.0, 1.0, 0.0)
        if mask >= 0:
            of_each = inputs.list(mask, 3, np.nan)
            of_each = np.where(np.isnan(of_each), (1.0, 1.0, 0.0), of_each)
        of_x, of_weight, of_bias = of_each.T
        moved = (
            inputs.bytes(gradient)
            + of_x * (inputs.bytes(weight) + inputs.numel(x) * inputs.item(x))
            + of_weight * (inputs.bytes(x) + inputs.numel(weight) * inputs.item(weight))
            + of_bias * inputs.dim(gradient, 1) * inputs.item(gradient)
        )
        needed = each * (of_x + of_weight)
        return matrix_work(2 * each, moved, inputs.type(x), needed)

    return work


def one_gradient(gradient: int, other: int, sizes: int, *, of_weight: bool) -> Model:
    """Return the model of one gradient alone; the shape of what is made stands in a list.

    Args:
        gradient: Place of the output's gradient.
        other: Place of the filter, or of the input for the filter's gradient.
        sizes: Place of the list.
        of_weight: The filter's gradient is made.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work of one gradient."""
        rank = inputs.rank[:, gradient].astype(np.int64)
        made = np.full(len(inputs), np.nan)
        per_filter = np.full(len(inputs), np.nan)
        for length in range(3, 6):
            rows = rank == length
            if rows.any():
                shape = inputs.take(rows).list(sizes, length)
                made[rows] = shape.prod(axis=1)
                per_filter[rows] = shape[:, 1:].prod(axis=1)
        each = per_filter if of_weight else inputs.numel(other) / inputs.dim(other, 0)
        flop = 2 * inputs.numel(gradient) * each
        moved = inputs.bytes(gradient, other) + made * inputs.item(gradient)
        return matrix_work(flop, moved, inputs.type(gradient))

    return work


def forward_to(inputs: Inputs) -> Work:
    """Return the work of a forward convolution of input, filter and output, in this order."""
    each = 2 * inputs.numel(1) / inputs.dim(1, 0)
    return matrix_work(each * inputs.numel(2), inputs.bytes(0, 1, 2), inputs.type(0))


def _conv(**places: int | bool) -> Model:
    make: Callable[..., ConvolutionPlaces] = ConvolutionPlaces
    return forward(make(**places))


_ATEN = _conv(bias=2, stride=3, padding=4, dilation=5, transposed=6, output_padding=7)
_MODULE = _conv(bias=2, stride=3, padding=4, dilation=5)
_TURNED_MODULE = _conv(
    bias=2, stride=3, padding=4, output_padding=5, dilation=7, is_transposed=True
)
_MIOPEN = _conv(bias=2, padding=3, stride=4, dilation=5)
_CUDNN = _conv(padding=2, stride=3, dilation=4)
_FUSED = _conv(bias=2, padding=3, stride=4)  # of apex

MODELS: dict[str, Model] = {
    "aten::convolution": _ATEN,
    "aten::_convolution": _ATEN,
    "aten::convolution_overrideable": _ATEN,
    **{f"aten::conv{n}d": _MODULE for n in (1, 2, 3)},
    **{f"aten::conv_transpose{n}d": _TURNED_MODULE for n in (1, 2, 3)},
    "aten::cudnn_convolution": _CUDNN,
    "aten::cudnn_convolution_transpose": _conv(
        padding=2, output_padding=3, stride=4, dilation=5, is_transposed=True
    ),
    "aten::cudnn_convolution_relu": _conv(bias=2, stride=3, padding=4, dilation=5),
    "aten::cudnn_convolution_add_relu": _conv(bias=4, stride=5, padding=6, dilation=7),
    "aten::miopen_convolution": _MIOPEN,
    "aten::miopen_depthwise_convolution": _MIOPEN,
    "aten::miopen_convolution_transpose": _conv(
        bias=2, padding=3, output_padding=4, stride=5, dilation=6, is_transposed=True
    ),
    "aten::_conv_depthwise2d": _conv(bias=3, stride=4, padding=5, dilation=6),
    "aten::conv_depthwise3d": _conv(bias=3, stride=4, padding=5, dilation=6),
    "aten::_slow_conv2d_forward": _conv(bias=3, stride=4, padding=5),
    "aten::thnn_conv2d": _conv(bias=3, stride=4, padding=5),
    "ConvBias_": _FUSED,
    "ConvBiasReLU_": _FUSED,
    "aten::convolution_backward": backward(0, 1, 2, mask=10, transposed=7),
    "aten::convolution_backward_overrideable": backward(0, 1, 2, transposed=6),
    "aten::cudnn_convolution_backward": backward(1, 0, 2),
    "aten::miopen_convolution_backward": backward(1, 0, 2),
    "aten::thnn_conv2d_backward": backward(0, 1, 2),
    "aten::cudnn_convolution_backward_input": one_gradient(1, 2, 0, of_weight=False),
    "aten::cudnn_convolution_backward_weight": one_gradient(1, 2, 0, of_weight=True),
    "aten::miopen_convolution_backward_input": one_gradient(1, 2, 0, of_weight=False),
    "aten::miopen_convolution_backward_weight": one_gradient(1, 2, 0, of_weight=True),
}
"""Operators that convolve."""

FORWARD = frozenset(name for name in MODELS if "backward" not in name.lower())
"""Those of forward passes that take input and filter first."""

GRADIENTS = {
    "aten::cudnn_convolution_backward": (1, 0, 2),
    "aten::miopen_convolution_backward": (1, 0, 2),
    "aten::convolution_backward": (0, 1, 2),
    "aten::thnn_conv2d_backward": (0, 1, 2),
}
"""Where backward operators have the output's gradient, the input and the filter."""

CARRIED_OUT_BY = (
    *("aten::_convolution", "aten::convolution_overrideable"),
    *("aten::cudnn_convolution", "aten::cudnn_convolution_transpose"),
    *("aten::miopen_convolution", "aten::miopen_convolution_transpose"),
    *("aten::miopen_depthwise_convolution", "aten::_conv_depthwise2d", "aten::conv_depthwise3d"),
    *("aten::_slow_conv2d_forward", "aten::thnn_conv2d"),
)
"""Operators that carry out ``aten::convolution``, and are known by its name."""
