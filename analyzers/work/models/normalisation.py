"""Normalisations and softmax: the activations once in and once out, and the few parameters.

Operations are nominal: five for an element and six for a channel forward (mean, variance, scale,
shift, as TraceLens counts them from PyTorch's ``batch_norm_kernel.cpp``), nine for an element
backward. They never bind: device memory does.
"""

from __future__ import annotations

import numpy as np

from analyzers.intervals import Array
from analyzers.work.element_types import CODE_OF, SIZES
from analyzers.work.inputs import Inputs
from analyzers.work.models.work import Model, Work

STATISTIC_BYTES = 4  # mean and deviation are kept as 32-bit numbers
_FORWARD, _BACKWARD, _PER_CHANNEL = 5, 9, 6
_SOFTMAX, _SOFTMAX_BACKWARD = 5, 4
_FP16_BYTES = 2


def _length(inputs: Inputs, place: int, weight: int) -> Array:
    """Return the product of the shape that a norm goes over; else the elements of its weight."""
    total = np.full(len(inputs), np.nan)
    for length in range(1, 5):
        numbers = inputs.list(place, length)
        # A list of one would be repeated to any length, so that it is read first.
        fits = np.isnan(total) & ~np.isnan(numbers).any(axis=1)
        total = np.where(fits, numbers.prod(axis=1), total)
    return np.where(np.isnan(total) & inputs.has(weight), inputs.numel(weight), total)


def layer_norm(inputs: Inputs) -> Work:
    """``layer_norm(x, shape, weight, bias, …)``; mean and deviation of each row are written."""
    elements, channels = inputs.numel(0), _length(inputs, 1, 2)
    statistics = 2 * elements / channels * STATISTIC_BYTES
    moved = inputs.bytes(0, 2, 3) + elements * inputs.item(0) + statistics
    flop = _FORWARD * elements + _PER_CHANNEL * channels
    return Work(flop, moved, inputs.type(0))


def layer_norm_backward(inputs: Inputs) -> Work:
    """``native_layer_norm_backward(gradient, x, shape, mean, deviation, weight, bias, mask)``."""
    elements = inputs.numel(1)
    of_x, of_weight, of_bias = _mask(inputs, 7)
    moved = (
        inputs.bytes(0, 1, 3, 4)
        + of_x * (elements * inputs.item(1) + inputs.bytes(5))
        + of_weight * inputs.bytes(5)
        + of_bias * inputs.bytes(6)
    )
    return Work(_backward_flop(elements, of_x), moved, inputs.type(1))


def _mask(inputs: Inputs, place: int) -> tuple[Array, Array, Array]:
    of_each = np.nan_to_num(inputs.list(place, 3), nan=1.0)
    return of_each[:, 0], of_each[:, 1], of_each[:, 2]


def _backward_flop(elements: Array, of_x: Array) -> Array:
    without = 6  # products and sums for the parameters alone
    return elements * np.where(of_x > 0, _BACKWARD, without)


def batch_norm(inputs: Inputs) -> Work:
    """``batch_norm(x, weight, bias, mean, variance, training, …)``.

    Training writes the running statistics and keeps those of the batch; else they are only read.
    """
    elements, channels = inputs.numel(0), inputs.dim(0, 1)
    training = inputs.flag(5, 1.0) > 0
    kept = inputs.bytes(3, 4) + 2 * channels * STATISTIC_BYTES
    moved = inputs.bytes(0, 1, 2, 3, 4) + elements * inputs.item(0) + np.where(training, kept, 0.0)
    return Work(_FORWARD * elements + _PER_CHANNEL * channels, moved, inputs.type(0))


def batch_norm_backward(inputs: Inputs) -> Work:
    """``native_batch_norm_backward(gradient, x, weight, …, mean, deviation, train, eps, mask)``."""
    elements = inputs.numel(1)
    of_x, of_weight, of_bias = _mask(inputs, 9)
    moved = (
        inputs.bytes(0, 1, 2, 5, 6)
        + of_x * elements * inputs.item(1)
        + (of_weight + of_bias) * inputs.bytes(2)
    )
    return Work(_BACKWARD * elements, moved, inputs.type(1))


def library_norm_backward(inputs: Inputs) -> Work:
    """``cudnn_batch_norm_backward(x, gradient, weight, mean, variance, saved mean, …)``.

    The reference counts the products of gradient and input only: four for an element, three for a
    channel.
    """
    elements, channels = inputs.numel(0), inputs.dim(0, 1)
    moved = inputs.bytes(0, 1, 2, 5, 6) + elements * inputs.item(0) + 2 * inputs.bytes(2)
    return Work(4 * elements + 3 * channels, moved, inputs.type(0))


def group_norm(weight: int, bias: int) -> Model:
    """Return the model of a norm over groups of channels."""

    def work(inputs: Inputs) -> Work:
        """Return the work of groups."""
        elements, channels = inputs.numel(0), inputs.dim(0, 1)
        moved = inputs.bytes(0, weight, bias) + elements * inputs.item(0)
        return Work(_FORWARD * elements + _PER_CHANNEL * channels, moved, inputs.type(0))

    return work


def group_norm_backward(inputs: Inputs) -> Work:
    """``native_group_norm_backward(gradient, x, mean, deviation, weight, N, …, group, mask)``."""
    elements = inputs.numel(1)
    of_x, of_weight, of_bias = _mask(inputs, 9)
    moved = (
        inputs.bytes(0, 1, 2, 3)
        + of_x * (elements * inputs.item(1) + inputs.bytes(4))
        + (of_weight + of_bias) * inputs.bytes(4)
    )
    return Work(_backward_flop(elements, of_x), moved, inputs.type(1))


def rms_norm(inputs: Inputs) -> Work:
    """``rms_norm(x, shape, weight, eps)``: square, sum, root of each row, two products."""
    elements, channels = inputs.numel(0), _length(inputs, 1, 2)
    flop = elements / channels * (2 * channels + 2) + 2 * elements
    moved = inputs.bytes(0, 2) + elements * inputs.item(0)
    return Work(flop, moved, inputs.type(0))


def rms_norm_backward(inputs: Inputs) -> Work:
    """``_fused_rms_norm_backward(gradient, x, shape, deviation, weight, mask)``."""
    elements, channels = inputs.numel(1), _length(inputs, 2, 4)
    of_each = np.nan_to_num(inputs.list(5, 2), nan=1.0)
    of_x, of_weight = of_each[:, 0], of_each[:, 1]
    several_rows = 1 + (elements / channels > 1)
    flop = elements * (2 + 6 * of_x + of_weight * several_rows)
    moved = (
        inputs.bytes(0, 1, 3, 4) + of_x * elements * inputs.item(1) + of_weight * inputs.bytes(4)
    )
    return Work(flop, moved, inputs.type(1))


def engine_rms_norm(out: int, x: int, weight: int, residual: int = -1) -> Model:
    """Return the model of an RMS norm of an inference engine, whose output may be an argument.

    Args:
        out: Place of what is written; -1: the input is overwritten, or a tensor is returned.
        x: Place of the input.
        weight: Place of the weights.
        residual: Place of what is added first, and overwritten by the sum.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work of the norm, with what is added before it."""
        elements = inputs.numel(x)
        written = inputs.bytes(out) if out >= 0 else elements * inputs.item(x)
        moved = inputs.bytes(x, weight) + written + 2 * inputs.bytes(residual)
        rows = elements / inputs.dim(x, -1)
        return Work(4 * elements + 2 * rows, moved, inputs.type(x))

    return work


def softmax(inputs: Inputs) -> Work:
    """``_softmax(x, dimension, to fp32)``: largest, difference, power, sum, quotient."""
    widened = (inputs.flag(2, 0.0) > 0) & (inputs.item(0) == _FP16_BYTES)
    item = np.where(widened, SIZES[CODE_OF["fp32"]], inputs.item(0))
    moved = inputs.bytes(0) + inputs.numel(0) * item
    return Work(_SOFTMAX * inputs.numel(0), moved, inputs.type(0))


def softmax_backward(inputs: Inputs) -> Work:
    """``_softmax_backward_data(gradient, output, …)``: both are read, one is written."""
    moved = inputs.bytes(0, 1) + inputs.numel(0) * inputs.item(0)
    return Work(_SOFTMAX_BACKWARD * inputs.numel(0), moved, inputs.type(0))


NORM_MODELS: dict[str, Model] = {
    **dict.fromkeys(
        [
            *("aten::batch_norm", "aten::native_batch_norm", "aten::cudnn_batch_norm"),
            *("aten::miopen_batch_norm", "aten::_batch_norm_impl_index"),
            *("aten::instance_norm", "aten::_native_batch_norm_legit"),
        ],
        batch_norm,
    ),
    "aten::native_batch_norm_backward": batch_norm_backward,
    "aten::cudnn_batch_norm_backward": library_norm_backward,
    "aten::miopen_batch_norm_backward": library_norm_backward,
    "aten::layer_norm": layer_norm,
    "aten::native_layer_norm": layer_norm,
    "aten::native_layer_norm_backward": layer_norm_backward,
    "aten::group_norm": group_norm(2, 3),
    "aten::native_group_norm": group_norm(1, 2),
    "aten::native_group_norm_backward": group_norm_backward,
    "aten::rms_norm": rms_norm,
    "aten::_fused_rms_norm": rms_norm,
    "aten::_fused_rms_norm_backward": rms_norm_backward,
    # out, input, weight, eps; and input, residual, weight, eps (vLLM ``csrc/layernorm_kernels.cu``)
    "_C::rms_norm": engine_rms_norm(0, 1, 2),
    "_C::fused_add_rms_norm": engine_rms_norm(-1, 0, 2, residual=1),
    "sgl_kernel::rmsnorm": engine_rms_norm(0, 1, 2),
    "sgl_kernel::gemma_rmsnorm": engine_rms_norm(0, 1, 2),
    "sgl_kernel::fused_add_rmsnorm": engine_rms_norm(-1, 0, 2, residual=1),
    "sgl_kernel::gemma_fused_add_rmsnorm": engine_rms_norm(-1, 0, 2, residual=1),
    "aiter::rms_norm": engine_rms_norm(-1, 0, 1),
    "aiter::rmsnorm2d_fwd": engine_rms_norm(-1, 0, 1),
    "aiter::rmsnorm2d_fwd_": engine_rms_norm(-1, 0, 1),
}
"""Operators that normalise."""

SOFTMAX_MODELS: dict[str, Model] = {
    **dict.fromkeys(
        ["aten::_softmax", "aten::softmax", "aten::_log_softmax", "aten::log_softmax"], softmax
    ),
    "aten::_safe_softmax": softmax,
    "aten::_softmax_backward_data": softmax_backward,
    "aten::_log_softmax_backward_data": softmax_backward,
}
"""Softmax and its logarithm."""
